//! Upstreams: the systems whose state Dezky manages, and the payment provider.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Step of a domain's jobs, which calls the mail server.
pub const MAIL_DOMAIN: &str = "mail_domain";
/// Step of an app's jobs, which calls the identity provider.
pub const APP: &str = "app";
/// Step that syncs a partner's group with its team.
pub const PARTNER_TEAM: &str = "partner_team";
/// Step that processes an invitation to a partner's team.
pub const PARTNER_INVITATION: &str = "partner_invitation";
/// Step that measures tenants' spaces.
pub const STORAGE_FILES: &str = "storage_files";
/// Step that measures tenants' mailboxes.
pub const STORAGE_MAIL: &str = "storage_mail";
/// Step that looks up or deletes the MFA devices of a tenant's people.
pub const MFA_DEVICES: &str = "mfa_devices";

/// Step that measures the personal spaces of members.
pub const STORAGE_PERSONAL: &str = "storage_personal";

/// Step that ends a member's sessions.
pub const MEMBER_SIGN_OUT: &str = "member_sign_out";
/// Step that sets the password of a member's account at the identity provider.
pub const MEMBER_PASSWORD: &str = "member_password";
/// Step that sets the password of a member's mailbox.
pub const MAILBOX_PASSWORD: &str = "mailbox_password";

/// System that holds state of a tenant. Each but the payment provider is one step of every tenant job.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
#[schema(as = UpstreamName)]
pub enum Upstream {
    /// Identity: groups, users, sessions.
    Authentik,
    /// Mail: domains, mailboxes.
    Stalwart,
    /// Files: a project space for each tenant.
    Ocis,
    /// Payments: customers and their cards.
    Stripe,
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
    /// Every upstream that steps call.
    pub const CALLED: [Self; 4] = [Self::Authentik, Self::Stalwart, Self::Ocis, Self::Stripe];

    /// Whether tenants are provisioned in it, and have a provisioning state there.
    pub const fn is_provisioned(self) -> bool {
        !matches!(self, Self::Stripe)
    }

    /// Upstream that is called by the step with this name, if any.
    pub fn of_step(name: &str) -> Option<Self> {
        match name {
            MAIL_DOMAIN | MAILBOX_PASSWORD | STORAGE_MAIL => Some(Self::Stalwart),
            APP | PARTNER_TEAM | PARTNER_INVITATION | MEMBER_SIGN_OUT | MEMBER_PASSWORD
            | MFA_DEVICES => Some(Self::Authentik),
            STORAGE_FILES | STORAGE_PERSONAL => Some(Self::Ocis),
            name => name.parse().ok(),
        }
    }

    /// Name in documents, logs and URLs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentik => "authentik",
            Self::Stalwart => "stalwart",
            Self::Ocis => "ocis",
            Self::Stripe => "stripe",
        }
    }

    /// Customer-facing name.
    pub const fn service(self) -> &'static str {
        match self {
            Self::Authentik => "sign-on",
            Self::Stalwart => "mail",
            Self::Ocis => "files",
            Self::Stripe => "payment",
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
        Self::CALLED
            .into_iter()
            .find(|upstream| upstream.name() == text)
            .ok_or_else(|| "expected authentik, stalwart, ocis or stripe".to_owned())
    }
}
