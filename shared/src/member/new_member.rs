//! New member, as requested.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::user::Role;

/// A new member with valid fields. The addresses are resolved by the transaction that creates the member, since the
/// tenant's domains may change until then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewMember {
    /// Login, in lower case. By default the address of the mailbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Local part in the primary domain. By default that of `email`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_part: Option<String>,
    /// Display name.
    pub name: String,
    /// Role.
    pub role: Role,
    /// Whether the member has a mailbox.
    pub mailbox: bool,
    /// Further addresses of the mailbox.
    #[serde(default)]
    pub aliases: Vec<Alias>,
    /// Quota of the mailbox in bytes; missing is that of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota_bytes: Option<i64>,
}

/// An alias: a local part, in the primary domain unless another is named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alias {
    /// Local part.
    pub local_part: String,
    /// Domain, normalized.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
}

impl fmt::Display for Alias {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.local_part)?;
        self.domain
            .iter()
            .try_for_each(|domain| write!(f, "@{domain}"))
    }
}
