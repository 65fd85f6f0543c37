//! Rights of members: who may manage whom, and the memberships that follow a member.

use bson::DateTime;
use dezky_shared::{
    id::TenantId,
    member::{Member, MemberStatus},
    store::{TransactionError, VersionedRepository as _},
    user::{Role, User},
};
use mongodb::ClientSession;

use crate::{
    error::{ApiError, ProblemCode},
    extract::Caller,
    routes::users::ensure_owner_remains,
    state::AppState,
    write::Rollback,
};

/// The error detail if an admin manages an owner.
const OWNERS_ONLY: &str =
    "Only owners can manage owners, and grant or revoke the role of an owner.";

/// Rejects a caller who is neither an owner nor an operator if the change concerns an owner: `held` is the role that the
/// person has, and `new` the one that they get.
pub(super) fn ensure_may_manage(
    caller: &Caller,
    tenant: TenantId,
    held: Option<Role>,
    new: Option<Role>,
) -> Result<(), ApiError> {
    if [held, new].contains(&Some(Role::Owner)) && !is_owner(caller, tenant) {
        return Err(ApiError::new(ProblemCode::Forbidden).with_detail(OWNERS_ONLY));
    }
    Ok(())
}

/// Whether the caller acts as an owner of the tenant.
pub(super) fn is_owner(caller: &Caller, tenant: TenantId) -> bool {
    caller.user.role_in(tenant) == Some(Role::Owner) || caller.is_operator()
}

/// Brings the membership of a member's user in step with the member. Rejects the loss of the last owner.
pub(super) async fn follow_member(
    session: &mut ClientSession,
    app: &AppState,
    member: &Member,
    before: &User,
    now: DateTime,
) -> Result<User, Rollback> {
    let mut user = before.clone();
    user.set_member(member.tenant_id, member.id, member.granted_role(), now);
    ensure_owner_remains(session, app, &(&before.owns() - &user.owns())).await?;
    app.db
        .users
        .save_changed(session, before, &mut user, now)
        .await?;
    Ok(user)
}

/// Brings the members of a user in step with roles that were changed directly. A role of a suspended or removed member, and
/// the loss of a role, are changed at the member: otherwise a resume would bring back a role that was removed here.
pub(in crate::routes) async fn sync_members(
    session: &mut ClientSession,
    app: &AppState,
    before: &User,
    user: &User,
    now: DateTime,
) -> Result<(), Rollback> {
    for (tenant, membership) in &user.memberships {
        let Some(id) = membership.member_id else {
            continue;
        };
        if membership.role == before.role_in(*tenant) {
            continue;
        }
        let edit = |member: &mut Member| match (membership.role, member.granted_role()) {
            _ if member.status == MemberStatus::Removed => Ok(()),
            (Some(role), Some(_)) => {
                member.role = role;
                Ok(())
            }
            _ => Err(ProblemCode::ManagedMember),
        };
        let updated = app.db.members.update(session, id, now, edit).await;
        if let Err(error) = updated {
            return Err(match error {
                TransactionError::Store(error) => TransactionError::Store(error),
                TransactionError::Aborted(code) => code.into(),
            });
        }
    }
    Ok(())
}

/// Rejects the deletion of a user who is a member of a tenant: the accounts would stay without an owner. A member who is
/// being removed counts, too: a restore brings back the rights.
pub(in crate::routes) async fn ensure_unmanaged(
    session: &mut ClientSession,
    app: &AppState,
    user: &User,
) -> Result<(), Rollback> {
    let places = app.db.members.list_places(session, user.id).await?;
    if !places.is_empty() {
        return Err(ProblemCode::ManagedMember.into());
    }
    Ok(())
}
