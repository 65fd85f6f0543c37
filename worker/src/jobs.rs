//! Job kinds and their steps.

mod check_spaces;
mod domain;
mod item_work;
mod job_operation;
mod partial_failure;
mod partner;
mod reconcile_tenants;
mod snapshot_subscriptions;
mod tenant;
mod trim_audit;

use dezky_shared::queue::args::{
    CheckSpaces, DeprovisionTenant, InvitePartnerMember, ProvisionDomain, ProvisionTenant,
    RecheckDomain, RecheckDueDomains, ReconcileTenant, ReconcileTenants, RemoveDomain,
    ResumeTenant, RunJobOperation, SetDmarc, SnapshotSubscriptions, SuspendTenant, SyncPartnerTeam,
    TrimAudit,
};

pub use self::tenant::TenantTarget;
use crate::steps::Registry;

/// Registry of all job kinds.
///
/// The five tenant kinds share their steps: each converges the upstreams to the tenant's document as of the run. The
/// kind only records the cause, so a late suspend cannot undo a resume.
pub fn registry() -> Registry {
    Registry::default()
        .register::<ProvisionTenant>(tenant::steps())
        .register::<ReconcileTenant>(tenant::steps())
        .register::<SuspendTenant>(tenant::steps())
        .register::<ResumeTenant>(tenant::steps())
        .register::<DeprovisionTenant>(tenant::steps())
        .register::<ReconcileTenants>(reconcile_tenants::steps())
        .register::<SnapshotSubscriptions>(snapshot_subscriptions::steps())
        .register::<RunJobOperation>(job_operation::steps())
        .register::<ProvisionDomain>(domain::provision())
        .register::<SetDmarc>(domain::provision())
        .register::<RemoveDomain>(domain::remove())
        .register::<RecheckDomain>(domain::recheck())
        .register::<RecheckDueDomains>(domain::recheck_due())
        .register::<InvitePartnerMember>(partner::invite())
        .register::<SyncPartnerTeam>(partner::sync())
        .register::<TrimAudit>(trim_audit::steps())
        .register::<CheckSpaces>(check_spaces::steps())
}
