//! Storage report of a tenant: the usage of its space and mailboxes, as a job last measured it.
//!
//! The file server and the mail server are measured by steps of their own, each of which replaces its part.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::id::TenantId;

/// Storage report, as stored: one per tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StorageReport {
    /// Tenant.
    #[serde(rename = "_id")]
    pub tenant_id: TenantId,
    /// Usage on the file server. `None` until it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub files: Option<FilesUsage>,
    /// Usage on the mail server. `None` until it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mail: Option<MailUsage>,
}

/// Usage on the file server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilesUsage {
    /// Time at which the measurement began.
    pub as_of: DateTime,
    /// The shared space. `None` if the tenant has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<SpaceUsage>,
}

/// Usage of a space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceUsage {
    /// Quota in bytes; 0 is unlimited.
    pub total_bytes: i64,
    /// Used bytes. `None` while the space is disabled: the file server does not report them then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used_bytes: Option<i64>,
}

/// Personal space of a member's user on the file server, stored with the member.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonalSpace {
    /// Time at which it was seen.
    pub as_of: DateTime,
    /// Its usage then.
    #[serde(flatten)]
    pub usage: SpaceUsage,
}

/// Usage on the mail server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailUsage {
    /// Time at which the measurement began.
    pub as_of: DateTime,
    /// Number of mailboxes.
    pub count: i64,
    /// Bytes used by all mailboxes.
    pub used_bytes: i64,
    /// The mailboxes, by address.
    pub mailboxes: Vec<MailboxUsage>,
}

impl MailUsage {
    /// The usage of these mailboxes.
    pub fn of(mut mailboxes: Vec<MailboxUsage>, as_of: DateTime) -> Self {
        mailboxes.sort_by(|a, b| a.address.cmp(&b.address));
        Self {
            as_of,
            count: i64::try_from(mailboxes.len()).unwrap_or(i64::MAX),
            used_bytes: mailboxes
                .iter()
                .fold(0, |sum, mailbox| sum.saturating_add(mailbox.used_bytes)),
            mailboxes,
        }
    }
}

/// Usage of a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MailboxUsage {
    /// Id at the mail server.
    pub account_id: String,
    /// Address.
    pub address: String,
    /// Used bytes.
    pub used_bytes: i64,
    /// Quota in bytes; 0 is unlimited.
    pub quota_bytes: i64,
}

/// Fill level of a quota, at the thresholds of the file server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum QuotaState {
    /// At most 75 %, or unlimited.
    Normal,
    /// At most 90 %.
    Nearing,
    /// Less than full.
    Critical,
    /// Full.
    Exceeded,
}

impl QuotaState {
    /// State of a quota in bytes; 0 is unlimited.
    pub fn of(used: i64, total: i64) -> Self {
        if total <= 0 {
            return Self::Normal;
        }
        match i128::from(used) * 100 / i128::from(total) {
            ..=75 => Self::Normal,
            76..=90 => Self::Nearing,
            91..=99 => Self::Critical,
            _ => Self::Exceeded,
        }
    }
}

impl SpaceUsage {
    /// Fill level of the space. `None` while it is disabled.
    pub fn state(self) -> Option<QuotaState> {
        let used = self.used_bytes?;
        Some(QuotaState::of(used, self.total_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_a_quota_follows_its_share() {
        for (used, total, state) in [
            (0, 100, QuotaState::Normal),
            (75, 100, QuotaState::Normal),
            (76, 100, QuotaState::Nearing),
            (90, 100, QuotaState::Nearing),
            (91, 100, QuotaState::Critical),
            (999, 1_000, QuotaState::Critical),
            (100, 100, QuotaState::Exceeded),
            (i64::MAX, 1, QuotaState::Exceeded),
            (i64::MAX, 0, QuotaState::Normal),
        ] {
            assert_eq!(QuotaState::of(used, total), state, "{used} of {total}");
        }
    }

    #[test]
    fn mailboxes_are_summed_and_sorted_by_address() {
        let mailbox = |address: &str, used_bytes| MailboxUsage {
            account_id: address.to_owned(),
            address: address.to_owned(),
            used_bytes,
            quota_bytes: 0,
        };

        let usage = MailUsage::of(
            vec![mailbox("b", i64::MAX), mailbox("a", 1)],
            DateTime::from_millis(0),
        );

        assert_eq!((usage.count, usage.used_bytes), (2, i64::MAX));
        assert_eq!(usage.mailboxes[0].address, "a");
    }
}
