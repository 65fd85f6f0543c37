//! Tenant state as a precondition of commands.

use dezky_shared::{
    id::TenantId,
    store::VersionedRepository as _,
    tenant::{Tenant, TenantStatus},
};
use mongodb::ClientSession;

use super::{CommandRunner, Rollback};
use crate::error::ProblemCode;

/// Rejects a change to a tenant that is being terminated, or is terminated.
pub fn ensure_not_terminating(tenant: &Tenant) -> Result<(), ProblemCode> {
    match tenant.status {
        TenantStatus::Terminating => Err(ProblemCode::TenantTerminating),
        TenantStatus::Terminated => Err(ProblemCode::TenantTerminated),
        TenantStatus::Pending | TenantStatus::Active | TenantStatus::Suspended => Ok(()),
    }
}

/// The tenant in the transaction of a command. Rejects the command if it is being terminated, or is terminated.
pub async fn find_open_tenant(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    id: TenantId,
) -> Result<Tenant, Rollback> {
    let tenants = &runner.app.db.tenants;
    let found = tenants.find_in_transaction(session, id).await?;
    let tenant = found.ok_or(ProblemCode::NotFound)?;
    ensure_not_terminating(&tenant)?;
    Ok(tenant)
}
