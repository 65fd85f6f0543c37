//! Every kind of job, and what it does.

mod domain;
mod job_operation;
mod partner;
mod reconcile_tenants;
mod setbacks;
mod snapshot_subscriptions;
mod tenant;
mod trim_audit;

use dezky_shared::jobs::{
    DeprovisionTenant, InvitePartnerMember, ProvisionDomain, ProvisionTenant, RecheckDomain,
    RecheckDueDomains, ReconcileTenant, ReconcileTenants, RemoveDomain, ResumeTenant,
    RunJobOperation, SetDmarc, SnapshotSubscriptions, SuspendTenant, SyncPartnerTeam, TrimAudit,
};

use crate::work::Registry;

/// The one list of kinds.
///
/// The five about a tenant do the same work: they bring the upstreams to what the tenant's document says when they
/// run. The kind only says why, so a late suspend cannot undo a resume.
pub fn registry() -> Registry {
    Registry::default()
        .kind::<ProvisionTenant>(tenant::steps())
        .kind::<ReconcileTenant>(tenant::steps())
        .kind::<SuspendTenant>(tenant::steps())
        .kind::<ResumeTenant>(tenant::steps())
        .kind::<DeprovisionTenant>(tenant::steps())
        .kind::<ReconcileTenants>(reconcile_tenants::steps())
        .kind::<SnapshotSubscriptions>(snapshot_subscriptions::steps())
        .kind::<RunJobOperation>(job_operation::steps())
        .kind::<ProvisionDomain>(domain::provision())
        .kind::<SetDmarc>(domain::provision())
        .kind::<RemoveDomain>(domain::remove())
        .kind::<RecheckDomain>(domain::recheck())
        .kind::<RecheckDueDomains>(domain::recheck_due())
        .kind::<InvitePartnerMember>(partner::invite())
        .kind::<SyncPartnerTeam>(partner::sync())
        .kind::<TrimAudit>(trim_audit::steps())
}
