//! Whether a partner may look after a tenant.

use dezky_shared::{partner::PartnerStatus, store::TransactionError, tenant::Tenant};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    intent::{CommandError, CommandRunner, reject},
};

/// Refuses a partner of `tenant`'s that does not exist or was terminated.
pub(super) async fn ensure_partner_active(
    recorder: &CommandRunner<'_>,
    session: &mut ClientSession,
    tenant: &Tenant,
) -> Result<(), TransactionError<CommandError>> {
    let Some(id) = tenant.partner_id else {
        return Ok(());
    };
    let partners = &recorder.app.partners;
    // Written, not read: else a termination at the same time would not be noticed.
    let partner = partners.find_for_update(session, id).await?;
    let (code, message) = match partner.map(|partner| partner.status) {
        Some(PartnerStatus::Active) => return Ok(partners.unlock(session, id).await?),
        Some(PartnerStatus::Terminated) => ("partner_terminated", "This partner was terminated."),
        None => ("unknown_partner", "There is no such partner."),
    };
    // Staff name no partner: it is theirs, which ended just now.
    if !recorder.caller.is_operator() {
        return Err(reject(ProblemCode::Forbidden));
    }
    let error = FieldError::at("/partnerId", code, message);
    Err(reject(ApiError::invalid(vec![error])))
}
