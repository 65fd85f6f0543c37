//! Tenant state as a precondition of commands.

use dezky_shared::tenant::{Tenant, TenantStatus};

use crate::error::ProblemCode;

/// Rejects a change to a tenant that is being terminated, or is terminated.
pub fn ensure_not_terminating(tenant: &Tenant) -> Result<(), ProblemCode> {
    match tenant.status {
        TenantStatus::Terminating => Err(ProblemCode::TenantTerminating),
        TenantStatus::Terminated => Err(ProblemCode::TenantTerminated),
        TenantStatus::Pending | TenantStatus::Active | TenantStatus::Suspended => Ok(()),
    }
}
