//! Every kind of job, and what it does.

mod job_operation;
mod reconcile_tenants;
mod tenant;

use dezky_shared::jobs::{
    DeprovisionTenant, ProvisionTenant, ReconcileTenant, ReconcileTenants, ResumeTenant,
    RunJobOperation, SuspendTenant,
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
        .kind::<RunJobOperation>(job_operation::steps())
}
