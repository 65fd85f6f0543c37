//! What holds of a partner's team, whoever changes it and by which route: only an active partner takes somebody on, no
//! more than there is room for, and it keeps its last owner.

use dezky_shared::{
    id::PartnerId,
    partner::PartnerStatus,
    store::TransactionError,
    user::{PartnerRole, User},
};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    intent::{CommandError, reject},
    state::AppState,
};

/// The most people on a team, those included who are about to join.
const TEAM: u64 = 200;
/// What a partner without an owner could not mend by itself.
const LAST_OWNER: &str = "A partner keeps its last owner. Make somebody else an owner first.";

/// Refuses what no team allows of a change that makes `user` of whom is `known`, both of them in the database as
/// `known` still. An owner who ceases to be one takes along what they invited to.
pub(in crate::routes) async fn check_team_invariants(
    session: &mut ClientSession,
    app: &AppState,
    known: Option<&User>,
    user: Option<&User>,
) -> Result<(), TransactionError<CommandError>> {
    let (before, after) = (known.and_then(membership_of), user.and_then(membership_of));
    if before == after {
        return Ok(());
    }
    if let (Some(known), Some((partner_id, PartnerRole::Owner))) = (known, before) {
        let is_active = lock(session, app, partner_id).await?;
        let owners = app.users.count_partner_owners(session, partner_id).await?;
        if is_active && owners <= 1 {
            let refusal = ApiError::new(ProblemCode::LastOwner).with_detail(LAST_OWNER);
            return Err(reject(refusal));
        }
        let invitations = &app.invitations;
        invitations
            .withdraw_made_by(session, partner_id, known.id)
            .await?;
    }
    if let Some((partner_id, _)) = after
        && known.and_then(|known| known.partner_id) != Some(partner_id)
    {
        if !lock(session, app, partner_id).await? {
            let message = "There is no such partner.";
            let error = FieldError::at("/partnerId", "unknown_partner", message);
            return Err(reject(ApiError::invalid(vec![error])));
        }
        check_team_size(session, app, partner_id).await?;
    }
    Ok(())
}

/// Refuses one more on a team that is full. The partner is locked in this transaction.
pub(super) async fn check_team_size(
    session: &mut ClientSession,
    app: &AppState,
    partner_id: PartnerId,
) -> Result<(), TransactionError<CommandError>> {
    let team = app.users.count_team(session, partner_id).await?;
    let pending = app.invitations.count_pending(session, partner_id).await?;
    if team + pending >= TEAM {
        return Err(reject(ProblemCode::TeamFull));
    }
    Ok(())
}

/// Whether the partner is active. Written, not read: of two who take away one of two owners each, or fill the last
/// place, the second sees the first.
async fn lock(
    session: &mut ClientSession,
    app: &AppState,
    partner_id: PartnerId,
) -> Result<bool, TransactionError<CommandError>> {
    let partner = app.partners.find_for_update(session, partner_id).await?;
    app.partners.unlock(session, partner_id).await?;
    Ok(partner.is_some_and(|partner| partner.status == PartnerStatus::Active))
}

fn membership_of(user: &User) -> Option<(PartnerId, PartnerRole)> {
    let role = user.partner_role.unwrap_or(PartnerRole::ReadOnly);
    user.partner_id.map(|id| (id, role))
}
