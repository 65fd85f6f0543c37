//! Role changes and removal of members.

use dezky_shared::{
    audit::Action, id::UserId, platform::change_feed::DocumentChange,
    store::VersionedRepository as _, tenant::Tenant, user::Role,
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TenantUserView, respond};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    etag::ETag,
    extract::{Caller, EmptyBody, PathId, ReadWrite, TenantAccess, Validate},
    response::ApiResponse,
    routes::users::{audited_in, ensure_owner_remains, target},
    validate::{Validator, user},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// The error detail if an admin grants or revokes the role of an owner.
const OWNERS_ONLY: &str = "Only owners can grant or revoke the role of an owner.";

/// A new role in a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantUserPatch)]
pub(super) struct PatchRequest {
    /// Role: `member`, `admin` or `owner`.
    #[schema(pattern = "^(member|admin|owner)$")]
    role: String,
}

/// A validated new role.
#[derive(Debug)]
pub(super) struct Patch(Role);

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let role = validator.check("/role", user::role(&raw.role));
        validator.finish(role.map(Self))
    }
}

/// Changes the role of a member
///
/// Only owners and operators can grant or revoke the role of an owner. The last owner of a tenant cannot be changed.
#[utoipa::path(
    patch, path = "/tenants/{slug}/users/{id}", operation_id = "updateTenantUser", tag = "tenant users",
    request_body = PatchRequest,
    responses((status = 200, body = TenantUserView)),
)]
pub(super) async fn update(
    w: Write<TenantAccess<ReadWrite>, Patch, PathId<UserId>>,
) -> Result<ApiResponse, ApiError> {
    let change = RoleChange {
        tenant: &w.access.tenant,
        id: w.params.0,
        role: Some(w.body.0),
    };
    change.execute(&w.runner()).await
}

/// Removes a member from a tenant and returns the member
///
/// Access to the tenant ends at once, regardless of the groups in tokens. The account stays. Only owners and operators
/// can remove an owner. The last owner of a tenant cannot be removed.
#[utoipa::path(
    delete, path = "/tenants/{slug}/users/{id}", operation_id = "removeTenantUser", tag = "tenant users",
    responses((status = 200, body = TenantUserView)),
)]
pub(super) async fn remove(
    w: Write<TenantAccess<ReadWrite>, EmptyBody, PathId<UserId>>,
) -> Result<ApiResponse, ApiError> {
    let change = RoleChange {
        tenant: &w.access.tenant,
        id: w.params.0,
        role: None,
    };
    change.execute(&w.runner()).await
}

struct RoleChange<'a> {
    tenant: &'a Tenant,
    id: UserId,
    /// The new role; `None` removes the member.
    role: Option<Role>,
}

impl RoleChange<'_> {
    async fn execute(&self, runner: &CommandRunner<'_>) -> Result<ApiResponse, ApiError> {
        // Checked here too, because a replay does not run the command.
        let user = runner.app.db.users.find(self.id).await?;
        let held = user.and_then(|user| user.role_in(self.tenant.id));
        self.allow(runner.caller, held)?;
        Ok(runner.run(self).await?.response)
    }

    fn allow(&self, caller: &Caller, held: Option<Role>) -> Result<(), ApiError> {
        let concerns_owners = held != self.role && [held, self.role].contains(&Some(Role::Owner));
        let is_owner = caller.user.role_in(self.tenant.id) == Some(Role::Owner);
        if concerns_owners && !is_owner && !caller.is_operator() {
            return Err(ApiError::new(ProblemCode::Forbidden).with_detail(OWNERS_ONLY));
        }
        Ok(())
    }
}

impl Command for RoleChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let users = &app.db.users;
        let found = users.find_in_transaction(session, self.id).await?;
        let before = found.ok_or(ProblemCode::NotFound)?;
        let held = before.role_in(self.tenant.id);
        let held = held.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::from(&before))?;
        self.allow(runner.caller, Some(held))?;
        let now = app.store.now();
        let mut user = before.clone();
        user.set_role(self.tenant.id, self.role, now);
        if user.memberships == before.memberships {
            return Ok(CommandOutput::unchanged(respond(&before, held)));
        }
        ensure_owner_remains(session, app, &(&before.owns() - &user.owns())).await?;
        users.save_changed(session, &before, &mut user, now).await?;

        let event = runner
            .event(now, Action::UserUpdate, target(&user), Some(self.tenant))
            .with_changes(
                &audited_in(self.tenant, &before),
                &audited_in(self.tenant, &user),
            );
        let response = respond(&user, self.role.unwrap_or(held));
        Ok(CommandOutput::complete(response, event).with_changed(DocumentChange::User(self.id)))
    }
}
