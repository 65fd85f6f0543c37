//! Status of a member.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Status of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberStatus {
    /// Not yet provisioned in every upstream.
    Pending,
    /// Provisioned.
    Active,
    /// Suspended by an admin. The suspension of the tenant is a separate mark, which this status does not show.
    Suspended,
    /// Scheduled for removal at `purge_at`, suspended until then.
    Removing,
    /// Removed from every upstream. The document stays, without its addresses.
    Removed,
}

impl MemberStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Active,
        Self::Suspended,
        Self::Removing,
        Self::Removed,
    ];

    /// The status of members that still have accounts or addresses.
    pub const PRESENT: [Self; 4] = [Self::Pending, Self::Active, Self::Suspended, Self::Removing];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active => "active",
            Self::Suspended => "suspended",
            Self::Removing => "removing",
            Self::Removed => "removed",
        }
    }
}

impl fmt::Display for MemberStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for MemberStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|status| status.name() == text)
            .ok_or_else(|| "expected pending, active, suspended, removing or removed".to_owned())
    }
}
