//! Whether a partner may look after a tenant.

use dezky_shared::{partner::PartnerStatus, store::Abort, tenant::Tenant};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, Code, FieldError},
    intent::{Recorder, Stop, refuse},
};

/// Refuses a partner of `tenant`'s that does not exist or was terminated.
pub(super) async fn check(
    recorder: &Recorder<'_>,
    session: &mut ClientSession,
    tenant: &Tenant,
) -> Result<(), Abort<Stop>> {
    let Some(id) = tenant.partner_id else {
        return Ok(());
    };
    let partners = &recorder.app.partners;
    // Written, not read: else a termination at the same time would not be noticed.
    let partner = partners.lock(session, id).await?;
    let (code, message) = match partner.map(|partner| partner.status) {
        Some(PartnerStatus::Active) => return Ok(partners.unlock(session, id).await?),
        Some(PartnerStatus::Terminated) => ("partner_terminated", "This partner was terminated."),
        None => ("unknown_partner", "There is no such partner."),
    };
    // Staff name no partner: it is theirs, which ended just now.
    if !recorder.caller.is_operator() {
        return Err(refuse(Code::Forbidden));
    }
    let error = FieldError::at("/partnerId", code, message);
    Err(refuse(ApiError::values(vec![error])))
}
