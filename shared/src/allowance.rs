//! Allowances: the storage and the limits that a plan grants to its tenants.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::billing::Plan;

/// Allowance of a plan, as stored: one per plan. Sizes are in bytes, and 0 is unlimited.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allowance {
    /// Plan.
    #[serde(rename = "_id")]
    pub plan: Plan,
    /// Quota of a tenant's shared space.
    pub files_bytes: i64,
    /// Quota of a mailbox that has none of its own.
    pub mailbox_bytes: i64,
    /// Quota of a member's personal space on the file server. `None` leaves it as the file server sets it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member_files_bytes: Option<i64>,
    /// Maximum number of members. `None` is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seats: Option<i32>,
    /// Whether a new member beyond `seats` is rejected, as opposed to reported.
    #[serde(default)]
    pub seats_enforced: bool,
    /// Maximum number of sign-on apps. `None` is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apps: Option<i32>,
    /// Whether a new app beyond `apps` is rejected, as opposed to reported.
    #[serde(default)]
    pub apps_enforced: bool,
    /// Maximum number of mail domains, claims included. `None` is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domains: Option<i32>,
    /// Whether a new domain beyond `domains` is rejected, as opposed to reported.
    #[serde(default)]
    pub domains_enforced: bool,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl Allowance {
    /// The allowance of a plan before operators change it. The quotas of spaces are those that were fixed before there were
    /// allowances, so that no space's quota changes with the upgrade.
    pub fn default_of(plan: Plan, now: DateTime) -> Self {
        const GB: i64 = 1_000_000_000;
        let (files, mailbox) = match plan {
            Plan::Starter => (100, 10),
            Plan::Business => (500, 50),
            Plan::Enterprise => (2_000, 100),
        };
        Self {
            plan,
            files_bytes: files * GB,
            mailbox_bytes: mailbox * GB,
            member_files_bytes: None,
            seats: None,
            seats_enforced: false,
            apps: None,
            apps_enforced: false,
            domains: None,
            domains_enforced: false,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Quota of a tenant's shared space as the file server takes it: a negative one would hide the space.
    pub fn space_quota(&self) -> u64 {
        u64::try_from(self.files_bytes).unwrap_or(0)
    }

    /// Default quota of a mailbox, as the mail server takes it.
    pub fn mailbox_quota(&self) -> u64 {
        u64::try_from(self.mailbox_bytes).unwrap_or(0)
    }

    /// Quota of a member's personal space; `None` leaves it as it is.
    pub fn personal_quota(&self) -> Option<u64> {
        let bytes = self.member_files_bytes?;
        Some(u64::try_from(bytes).unwrap_or(0))
    }

    /// Whether a tenant that has `members` members may not have another one.
    pub fn rejects_member(&self, members: u64) -> bool {
        self.seats_enforced && is_used_up(self.seats, members)
    }

    /// Whether a tenant that has `apps` apps may not have another one.
    pub fn rejects_app(&self, apps: u64) -> bool {
        self.apps_enforced && is_used_up(self.apps, apps)
    }

    /// Whether a tenant that has `domains` domains may not have another one.
    pub fn rejects_domain(&self, domains: u64) -> bool {
        self.domains_enforced && is_used_up(self.domains, domains)
    }
}

fn is_used_up(limit: Option<i32>, used: u64) -> bool {
    limit.is_some_and(|limit| used >= u64::from(limit.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quota_is_never_negative() {
        let stored = Allowance {
            files_bytes: -1,
            mailbox_bytes: i64::MIN,
            member_files_bytes: Some(-1),
            ..Allowance::default_of(Plan::Starter, DateTime::from_millis(0))
        };

        assert_eq!((stored.space_quota(), stored.mailbox_quota()), (0, 0));
        assert_eq!(stored.personal_quota(), Some(0));
    }

    #[test]
    fn only_an_enforced_limit_rejects() {
        let mut allowance = Allowance {
            seats: Some(2),
            apps: Some(2),
            domains: Some(2),
            ..Allowance::default_of(Plan::Starter, DateTime::from_millis(0))
        };
        let rejects = |allowance: &Allowance, used| {
            [
                allowance.rejects_member(used),
                allowance.rejects_app(used),
                allowance.rejects_domain(used),
            ]
        };
        assert_eq!(rejects(&allowance, 3), [false; 3]);

        allowance.seats_enforced = true;
        allowance.apps_enforced = true;
        allowance.domains_enforced = true;

        assert_eq!(rejects(&allowance, 1), [false; 3]);
        assert_eq!(rejects(&allowance, 2), [true; 3]);
    }
}
