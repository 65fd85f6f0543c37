//! Mailbox of a member, and its addresses.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::id::DomainId;

/// Maximum number of aliases of a mailbox.
pub const ALIASES_PER_MAILBOX: usize = 50;

/// E-mail address on one of the tenant's domains.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailAddress {
    /// Part before the `@`, in lower case.
    pub local_part: String,
    /// The tenant's claim to the domain.
    pub domain_id: DomainId,
    /// The whole address.
    pub address: String,
}

impl MailAddress {
    /// The address of `local_part` in a domain.
    pub fn new(local_part: &str, domain_id: DomainId, domain: &str) -> Self {
        Self {
            local_part: local_part.to_owned(),
            domain_id,
            address: format!("{local_part}@{domain}"),
        }
    }

    /// Name of the domain.
    pub fn domain(&self) -> &str {
        self.address
            .rsplit_once('@')
            .map_or("", |(_, domain)| domain)
    }
}

/// Mailbox of a member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mailbox {
    /// Address of the mailbox, which is its name at sign-in.
    #[serde(flatten)]
    pub primary: MailAddress,
    /// Further addresses.
    #[serde(default)]
    pub aliases: Vec<MailAddress>,
    /// All addresses, unique over all tenants (multikey index). Empty, and not stored, once the member is removed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<String>,
    /// Quota in bytes; missing is that of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<i64>,
    /// Account id on the mail server, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stalwart_account_id: Option<String>,
    /// [`Member::password_issued_at`](super::Member::password_issued_at) of the password that was last set here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_issued_at: Option<DateTime>,
}

impl Mailbox {
    /// A mailbox that does not exist yet.
    pub fn new(primary: MailAddress, aliases: Vec<MailAddress>, quota_bytes: Option<i64>) -> Self {
        let mut mailbox = Self {
            primary,
            aliases: Vec::new(),
            addresses: Vec::new(),
            quota_bytes,
            stalwart_account_id: None,
            password_issued_at: None,
        };
        mailbox.set_aliases(aliases);
        mailbox
    }

    /// Replaces the aliases.
    pub fn set_aliases(&mut self, aliases: Vec<MailAddress>) {
        self.addresses = [&self.primary]
            .into_iter()
            .chain(&aliases)
            .map(|address| address.address.clone())
            .collect();
        self.aliases = aliases;
    }

    /// The domains of its addresses.
    pub fn domain_ids(&self) -> impl Iterator<Item = DomainId> {
        let aliases = self.aliases.iter().map(|alias| alias.domain_id);
        [self.primary.domain_id].into_iter().chain(aliases)
    }
}
