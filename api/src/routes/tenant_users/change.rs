//! Saying what somebody may do in a tenant, and taking them out of it.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    id::UserId,
    platform::change_feed::DocumentChange,
    store::TransactionError,
    tenant::Tenant,
    user::{Role, User},
};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{TenantUserView, answer};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        Caller, ETag, EmptyBody, IfMatch, PathId, QueryParams, RequestInfo, TenantAccess, Validate,
        ValidatedJson, Write,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::users::{audited_in, ensure_owner_remains, target},
    state::{AppState, SharedState},
    validate::{Validator, user},
};

/// What admins are told who would make or unmake an owner.
const OWNERS_ONLY: &str = "Only owners make somebody an owner, or an owner something else.";

/// What somebody is to be in a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TenantUserPatch)]
pub(super) struct PatchRequest {
    /// What they may do there: `member`, `admin` or `owner`.
    #[schema(pattern = "^(member|admin|owner)$")]
    role: String,
}

/// The role that somebody is to have.
#[derive(Debug)]
pub(super) struct Patch(Role);

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let role = checks.check("/role", user::role(&wire.role));
        checks.finish(role.map(Self))
    }
}

/// Says what somebody may do in a tenant
///
/// They must be in it. Only its owners, and operators, make and unmake owners; a tenant keeps its last owner.
#[utoipa::path(
    patch, path = "/tenants/{slug}/users/{id}", operation_id = "updateTenantUser", tag = "tenant users",
    request_body = PatchRequest,
    params(("slug" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = TenantUserView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: TenantAccess<Write>,
    PathId(id): PathId<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let Patch(role) = submitted.body;
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref())
        .on(&access.tenant);
    let change = RoleChange {
        tenant: &access.tenant,
        id,
        role: Some(role),
        if_match: &if_match,
    };
    change.carry_out(&recorder).await
}

/// Takes somebody out of a tenant, and answers who they were there
///
/// They may do nothing there any more, at once, whatever groups their token names. Their account stays. Only its
/// owners, and operators, take an owner out of it; a tenant keeps its last owner.
#[utoipa::path(
    delete, path = "/tenants/{slug}/users/{id}", operation_id = "removeTenantUser", tag = "tenant users",
    params(("slug" = String, Path), ("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = TenantUserView), (status = "default", response = Problem)),
)]
pub(super) async fn remove(
    access: TenantAccess<Write>,
    PathId(id): PathId<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref())
        .on(&access.tenant);
    let change = RoleChange {
        tenant: &access.tenant,
        id,
        role: None,
        if_match: &if_match,
    };
    change.carry_out(&recorder).await
}

struct RoleChange<'a> {
    tenant: &'a Tenant,
    id: UserId,
    /// What they are to be; nothing takes them out.
    role: Option<Role>,
    if_match: &'a IfMatch,
}

impl RoleChange<'_> {
    async fn carry_out(&self, recorder: &CommandRunner<'_>) -> Result<ApiResponse, ApiError> {
        // Here too, since a repeated request is answered without looking again.
        let user = recorder.app.users.find(self.id).await?;
        let held = user.and_then(|user| user.role_in(self.tenant.id));
        self.allow(recorder.caller, held)?;
        Ok(recorder.record(self).await?.answer)
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
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let locked = app.users.find_for_update(session, self.id).await?;
            let mut user = locked.ok_or_else(|| reject(ProblemCode::NotFound))?;
            let held = user.role_in(self.tenant.id);
            let held = held.ok_or_else(|| reject(ProblemCode::NotFound))?;
            let known = User {
                revision: user.revision - 1,
                ..user.clone()
            };
            self.if_match.check(ETag::from(&known)).map_err(reject)?;
            self.allow(recorder.caller, Some(held)).map_err(reject)?;
            let now = app.store.now();
            user.set_role(self.tenant.id, self.role, now);
            if user.memberships == known.memberships {
                app.users.unlock(session, self.id).await?;
                return Ok(CommandOutput::unchanged(
                    answer(&known, held).map_err(reject)?,
                ));
            }
            ensure_owner_remains(session, app, &(&known.owns() - &user.owns())).await?;
            user.updated_at = now;
            app.users.save(session, &user).await?;

            let event = recorder
                .event(now, Action::UserUpdate, target(&user), Some(self.tenant))
                .with_changes(
                    &audited_in(self.tenant, &known),
                    &audited_in(self.tenant, &user),
                );
            let answer = answer(&user, self.role.unwrap_or(held)).map_err(reject)?;
            Ok(CommandOutput {
                changed: vec![DocumentChange::User(self.id)],
                ..CommandOutput::complete(answer, event)
            })
        }
        .boxed()
    }
}
