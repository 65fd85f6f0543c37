//! Invariants of a partner's team, for every route that changes it: only an active partner gains members, a team has a
//! maximum size, and the last owner stays.

use dezky_shared::{
    id::PartnerId,
    partner::PartnerStatus,
    store::VersionedRepository as _,
    user::{PartnerRole, User},
};
use mongodb::ClientSession;

use super::role_of;
use crate::{
    error::{ApiError, FieldError, ProblemCode},
    state::AppState,
    write::Rollback,
};

/// Maximum team size, pending invitations included.
const MAX_TEAM: u64 = 200;
const LAST_OWNER: &str =
    "The last owner cannot be removed or demoted. Make another member an owner first.";

/// Rejects a change of a user from `before` to `after` that violates a team invariant. Call it before the user is saved.
/// Revokes the invitations of an owner who loses that level.
pub(in crate::routes) async fn check_team_invariants(
    session: &mut ClientSession,
    app: &AppState,
    before: Option<&User>,
    after: Option<&User>,
) -> Result<(), Rollback> {
    let old = before.and_then(membership_of);
    let new = after.and_then(membership_of);
    if old == new {
        return Ok(());
    }
    if let (Some(user), Some((partner_id, PartnerRole::Owner))) = (before, old) {
        let is_active = lock(session, app, partner_id).await?;
        let users = &app.db.users;
        let owners = users.count_partner_owners(session, partner_id).await?;
        if is_active && owners <= 1 {
            let rejection = ApiError::new(ProblemCode::LastOwner).with_detail(LAST_OWNER);
            return Err(rejection.into());
        }
        let invitations = &app.db.invitations;
        invitations
            .revoke_made_by(session, partner_id, user.id)
            .await?;
    }
    if let Some((partner_id, _)) = new
        && old.map(|(id, _)| id) != Some(partner_id)
    {
        if !lock(session, app, partner_id).await? {
            let message = "The partner does not exist or is not active.";
            let error = FieldError::at("/partnerId", "unknown_partner", message);
            return Err(ApiError::invalid(vec![error]).into());
        }
        check_team_size(session, app, partner_id).await?;
    }
    Ok(())
}

/// Rejects a new member if the team is full. The transaction has written the partner.
pub(super) async fn check_team_size(
    session: &mut ClientSession,
    app: &AppState,
    partner_id: PartnerId,
) -> Result<(), Rollback> {
    let team = app.db.users.count_team(session, partner_id).await?;
    let invitations = &app.db.invitations;
    let pending = invitations.count_pending(session, partner_id).await?;
    if team + pending >= MAX_TEAM {
        return Err(ProblemCode::TeamFull.into());
    }
    Ok(())
}

/// Whether the partner is active. Writes the partner, so that concurrent changes of its team conflict.
async fn lock(
    session: &mut ClientSession,
    app: &AppState,
    partner_id: PartnerId,
) -> Result<bool, Rollback> {
    let partners = &app.db.partners;
    let partner = partners.materialize_conflict(session, partner_id).await?;
    Ok(partner.is_some_and(|partner| partner.status == PartnerStatus::Active))
}

fn membership_of(user: &User) -> Option<(PartnerId, PartnerRole)> {
    user.partner_id.map(|id| (id, role_of(user)))
}
