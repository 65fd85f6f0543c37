//! The systems whose state Dezky keeps.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The name of the step of a domain's jobs, which speaks to the mail server.
pub const MAIL_DOMAIN: &str = "mail_domain";
/// The name of the step that brings a partner's group to who works for it.
pub const PARTNER_TEAM: &str = "partner_team";
/// The name of the step that carries out an invitation to a partner's team.
pub const PARTNER_INVITATION: &str = "partner_invitation";

/// A system in which a tenant has state of its own. Each is one step of every tenant job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Upstream {
    /// Identity: groups, users, sessions.
    Authentik,
    /// Mail: domains, mailboxes.
    Stalwart,
    /// Files: a project space for each tenant.
    Ocis,
}

impl Upstream {
    /// Every upstream that a tenant is provisioned in.
    pub const ALL: [Self; 3] = [Self::Authentik, Self::Stalwart, Self::Ocis];

    /// The upstream that a job's step of this name speaks to, if any.
    pub fn of_step(name: &str) -> Option<Self> {
        match name {
            MAIL_DOMAIN => Some(Self::Stalwart),
            PARTNER_TEAM | PARTNER_INVITATION => Some(Self::Authentik),
            name => name.parse().ok(),
        }
    }

    /// The name used in documents, logs and URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentik => "authentik",
            Self::Stalwart => "stalwart",
            Self::Ocis => "ocis",
        }
    }

    /// What customers call it.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Authentik => "sign-on",
            Self::Stalwart => "mail",
            Self::Ocis => "files",
        }
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Upstream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|upstream| upstream.name() == text)
            .ok_or_else(|| "expected authentik, stalwart or ocis".to_owned())
    }
}
