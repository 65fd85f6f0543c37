//! Upstreams: the systems whose state Dezky manages.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Step of a domain's jobs, which calls the mail server.
pub const MAIL_DOMAIN: &str = "mail_domain";
/// Step that syncs a partner's group with its team.
pub const PARTNER_TEAM: &str = "partner_team";
/// Step that processes an invitation to a partner's team.
pub const PARTNER_INVITATION: &str = "partner_invitation";

/// System that holds state of a tenant. Each is one step of every tenant job.
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

/// Domain on the mail server, by the server's id: the identity of the domain, which a rename keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailDomain {
    /// The mail server's id. It may denote another domain once the server was restored from a backup, so it counts only
    /// together with the name or the ownership marker.
    pub id: String,
    /// Name by which the tenant owns it.
    pub name: String,
}

impl Upstream {
    /// Every upstream in which tenants are provisioned.
    pub const ALL: [Self; 3] = [Self::Authentik, Self::Stalwart, Self::Ocis];

    /// Upstream that is called by the step with this name, if any.
    pub fn of_step(name: &str) -> Option<Self> {
        match name {
            MAIL_DOMAIN => Some(Self::Stalwart),
            PARTNER_TEAM | PARTNER_INVITATION => Some(Self::Authentik),
            name => name.parse().ok(),
        }
    }

    /// Name in documents, logs and URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentik => "authentik",
            Self::Stalwart => "stalwart",
            Self::Ocis => "ocis",
        }
    }

    /// Customer-facing name.
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
