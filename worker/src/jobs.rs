//! Every kind of job, and what it does.

mod domain;
mod job_operation;
mod partial_failure;
mod partner;
mod reconcile_tenants;
mod snapshot_subscriptions;
mod tenant;
mod trim_audit;

use dezky_shared::queue::args::{
    DeprovisionTenant, InvitePartnerMember, ProvisionDomain, ProvisionTenant, RecheckDomain,
    RecheckDueDomains, ReconcileTenant, ReconcileTenants, RemoveDomain, ResumeTenant,
    RunJobOperation, SetDmarc, SnapshotSubscriptions, SuspendTenant, SyncPartnerTeam, TrimAudit,
};

use crate::steps::Registry;

/// The one list of kinds.
///
/// The five about a tenant do the same work: they bring the upstreams to what the tenant's document says when they
/// run. The kind only says why, so a late suspend cannot undo a resume.
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
}
