//! Arguments of the jobs about no tenant: fan-outs, checks, retention and bulk operations.

use serde::{Deserialize, Serialize};

use crate::{billing::month::Month, id::JobOperationId};

/// Implements [`JobArgs`](crate::queue::job::JobArgs) for a job about no tenant, in the queue `maintenance`, with its lock
/// key and its unique key.
macro_rules! maintenance_job {
    ($args:ty, $kind:literal, $priority:ident, lock: |$locked:ident| $lock:expr, unique: |$this:ident| $unique:expr) => {
        impl $crate::queue::job::JobArgs for $args {
            const KIND: &'static str = $kind;
            const QUEUE: $crate::queue::job::Queue = $crate::queue::job::Queue::Maintenance;
            const PRIORITY: $crate::queue::priority::Priority =
                $crate::queue::priority::Priority::$priority;

            fn tenant_id(&self) -> Option<$crate::id::TenantId> {
                None
            }

            fn lock_key(&self) -> Option<String> {
                let $locked = self;
                $lock
            }

            fn unique_key(&self) -> Option<String> {
                let $this = self;
                $unique
            }
        }
    };
    // Periodic: at most one waits and one runs.
    ($args:ty, $kind:literal, singleton) => {
        maintenance_job!(
            $args, $kind, Bulk,
            lock: |_this| Some($kind.to_owned()), unique: |_this| Some("all".to_owned())
        );
    };
}

pub(super) use maintenance_job;

/// Enqueues a reconcile job for every tenant that is not terminated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcileTenants {
    /// Dry run: reports drift without repairing it.
    #[serde(default)]
    pub dry_run: bool,
    /// Period over which the jobs are spread, in seconds.
    #[serde(default)]
    pub spread_seconds: u64,
}

/// Deletes audit events whose retention period is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrimAudit {}

/// Looks for spaces on the file server that no tenant stores, and for those that several do. Read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckSpaces {}

/// Runs a bulk job operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunJobOperation {
    /// Operation id.
    pub operation_id: JobOperationId,
}

/// Enqueues a DNS check for every domain that is due.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecheckDueDomains {}

/// Takes the monthly subscription snapshot of every tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotSubscriptions {
    /// Month of the snapshot.
    pub month: Month,
}

/// Measures the spaces and the mailboxes of all tenants. Read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeasureAllStorage {}

maintenance_job!(RecheckDueDomains, "recheck_due_domains", singleton);
maintenance_job!(CheckSpaces, "check_spaces", singleton);
maintenance_job!(MeasureAllStorage, "measure_all_storage", singleton);
maintenance_job!(TrimAudit, "trim_audit", singleton);
maintenance_job!(
    ReconcileTenants, "reconcile_tenants", Bulk,
    lock: |_this| None, unique: |_this| None
);
maintenance_job!(
    RunJobOperation, "run_job_operation", Bulk,
    lock: |_this| None, unique: |this| Some(this.operation_id.to_string())
);
// No unique key: a waiting job may have processed half of the tenants, and joining it would keep their stale snapshots.
maintenance_job!(
    SnapshotSubscriptions, "snapshot_subscriptions", Bulk,
    lock: |_this| Some("snapshot_subscriptions".to_owned()), unique: |_this| None
);
