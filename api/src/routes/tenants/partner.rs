//! Check that the partner of a tenant is active.

use dezky_shared::{partner::PartnerStatus, store::VersionedRepository as _, tenant::Tenant};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    write::{CommandRunner, Rollback},
};

/// Rejects a tenant whose partner does not exist or was terminated.
pub(super) async fn ensure_partner_active(
    runner: &CommandRunner<'_>,
    session: &mut ClientSession,
    tenant: &Tenant,
) -> Result<(), Rollback> {
    let Some(id) = tenant.partner_id else {
        return Ok(());
    };
    let partners = &runner.app.db.partners;
    // Materialized conflict: a concurrent termination of the partner must abort one of the two transactions.
    let partner = partners.materialize_conflict(session, id).await?;
    let (code, message) = match partner.map(|partner| partner.status) {
        Some(PartnerStatus::Active) => return Ok(()),
        Some(PartnerStatus::Terminated) => ("partner_terminated", "The partner was terminated."),
        None => ("unknown_partner", "The partner does not exist."),
    };
    // The partner of its own staff comes from their account, so it was terminated during this request.
    if !runner.caller.is_operator() {
        return Err(ProblemCode::Forbidden.into());
    }
    let error = FieldError::at("/partnerId", code, message);
    Err(ApiError::invalid(vec![error]).into())
}
