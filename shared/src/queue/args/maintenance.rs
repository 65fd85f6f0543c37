//! Arguments of the jobs about no tenant: fan-outs, checks, retention and bulk operations.

use serde::{Deserialize, Serialize};

use super::declare::{maintenance_job, singleton_job};
use crate::{billing::month::Month, id::JobOperationId};

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

singleton_job!(RecheckDueDomains, "recheck_due_domains", Maintenance);
singleton_job!(CheckSpaces, "check_spaces", Maintenance);
singleton_job!(MeasureAllStorage, "measure_all_storage", Maintenance);
singleton_job!(TrimAudit, "trim_audit", Maintenance);
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
