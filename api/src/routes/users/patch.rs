//! What operators say somebody is, and may do.

use std::collections::BTreeMap;

use axum::extract::State;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    id::{PartnerId, UserId},
    platform::change_feed::DocumentChange,
    store::TransactionError,
    tenant::Tenant,
    user::{PartnerRole, User},
};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    UserDetail,
    audit::{audited, audited_in, target},
    detail,
    roles::{self, ResolvedRole, Roles, ensure_owner_remains},
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        ETag, IfMatch, Operator, PathParam, QueryParams, RequestInfo, Validate, ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::partner_team::{check_team_invariants, sync_team},
    state::{AppState, SharedState},
    validate::{self, Validator, double_option, unique_keys, user},
};

/// What is to change. What is missing stays.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = UserPatch)]
pub(super) struct PatchRequest {
    /// Their address, until a newer token of theirs says another.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, format = Email, max_length = 254)]
    email: Option<String>,
    /// Their name, until a newer token of theirs says another.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Option<String>,
    /// Roles by tenant, which is named by its id or slug: `member`, `admin`, `owner`, or null for none.
    #[serde(default, deserialize_with = "unique_keys")]
    tenant_roles: BTreeMap<String, Option<String>>,
    /// Whether they are an operator.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    platform_admin: Option<bool>,
    /// The partner they work for; null for none.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, format = Uuid)]
    partner_id: Option<Option<String>>,
    /// What they may do there: `owner`, `manager`, `support` or `read-only`, as with another partner unless said.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(owner|manager|support|read-only)$")]
    partner_role: Option<String>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(super) struct Patch {
    email: Option<String>,
    name: Option<String>,
    roles: Roles,
    platform_admin: Option<bool>,
    partner_id: Option<Option<PartnerId>>,
    partner_role: Option<PartnerRole>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let patch = Self {
            email: wire
                .email
                .and_then(|text| checks.check("/email", validate::email(&text))),
            name: wire
                .name
                .and_then(|text| checks.check("/name", validate::name(&text))),
            roles: roles::roles(&mut checks, wire.tenant_roles),
            platform_admin: wire.platform_admin,
            partner_id: wire
                .partner_id
                .map(|id| id.and_then(|id| checks.check("/partnerId", validate::id(&id)))),
            partner_role: wire
                .partner_role
                .and_then(|text| checks.check("/partnerRole", user::partner_role(&text))),
        };
        checks.finish(Some(patch))
    }
}

/// Says who somebody is, and what they may do
///
/// What is set here is left alone by the groups in their tokens. Another `partnerId` takes back every invitation to them.
/// A tenant and a partner keep their last owner: 409 `last_owner`.
#[utoipa::path(
    patch, path = "/users/{id}", operation_id = "updateUser", tag = "users", request_body = PatchRequest,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = UserDetail), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    Operator(caller): Operator,
    PathParam(id): PathParam<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let patch = &submitted.body;
    let places = roles::resolve(&app, &patch.roles, patch.partner_id.flatten()).await?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let change = UserChange {
        id,
        patch,
        places,
        if_match: &if_match,
    };
    Ok(recorder.record(&change).await?.answer)
}

struct UserChange<'a> {
    id: UserId,
    patch: &'a Patch,
    places: Vec<ResolvedRole>,
    if_match: &'a IfMatch,
}

impl UserChange<'_> {
    fn apply(&self, user: &mut User, now: DateTime) -> Result<(), ApiError> {
        let patch = self.patch;
        if let Some(email) = &patch.email {
            user.email.clone_from(email);
        }
        if let Some(name) = &patch.name {
            user.name.clone_from(name);
        }
        for place in &self.places {
            user.set_role(place.tenant.id, place.role, now);
        }
        if let Some(flag) = patch.platform_admin {
            user.set_platform_admin(flag, now);
        }
        if let Some(partner) = patch.partner_id
            && partner != user.partner_id
        {
            (user.partner_id, user.partner_role) = (partner, None);
        }
        if patch.partner_role.is_some() {
            if user.partner_id.is_none() {
                return Err(ApiError::invalid(vec![without_partner()]));
            }
            user.partner_role = patch.partner_role;
        }
        Ok(())
    }

    /// The tenant whose trail this belongs to: where nothing but a role in it changed. All else is the platform's.
    fn trail(&self, known: &User, user: &User) -> Option<&Tenant> {
        let without_roles = |user: &User| {
            let mut shown = audited(user);
            shown.remove("tenantRoles");
            shown
        };
        match &self.places[..] {
            [only] if without_roles(known) == without_roles(user) => Some(&only.tenant),
            _ => None,
        }
    }
}

/// What is wrong with a role at no partner.
pub(super) fn without_partner() -> FieldError {
    let message = "Say for which partner they work: partnerId.";
    FieldError::at("/partnerRole", "needs_partner", message)
}

impl Command for UserChange<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let mut user = app
                .users
                .find_for_update(session, self.id)
                .await?
                .ok_or_else(|| reject(ProblemCode::NotFound))?;
            let now = app.store.now();
            let revision = user.revision;
            let known = User {
                revision: revision - 1,
                ..user.clone()
            };
            self.if_match.check(ETag::from(&known)).map_err(reject)?;
            self.apply(&mut user, now).map_err(reject)?;
            user.revision = known.revision;
            if user == known {
                app.users.unlock(session, self.id).await?;
                let answer = detail(app, &known).await.map_err(reject)?;
                return Ok(CommandOutput::unchanged(answer));
            }
            if known.platform_admin && !user.platform_admin && self.id == recorder.caller.user.id {
                return Err(reject(ProblemCode::OwnAdminFlag));
            }
            ensure_owner_remains(session, app, &(&known.owns() - &user.owns())).await?;
            if user.partner_id != known.partner_id {
                // Whatever a partner waits to do about them, this is what counts.
                app.invitations.withdraw_all(session, &known).await?;
            }
            check_team_invariants(session, app, Some(&known), Some(&user)).await?;
            user.revision = revision;
            user.updated_at = now;
            app.users.save(session, &user).await?;

            let trail = self.trail(&known, &user);
            let shown = |user: &User| match trail {
                None => audited(user),
                Some(tenant) => audited_in(tenant, user),
            };
            let mut event = recorder
                .event(now, Action::UserUpdate, target(&user), trail)
                .with_changes(&shown(&known), &shown(&user));
            let mut jobs = Vec::new();
            if user.partner_id != known.partner_id {
                for partner in [known.partner_id, user.partner_id].into_iter().flatten() {
                    jobs.push(sync_team(recorder, session, partner).await?);
                }
            }
            event.job_id = jobs.first().map(|job| job.id);
            let answer = detail(app, &user).await.map_err(reject)?;
            Ok(CommandOutput {
                changed: vec![DocumentChange::User(self.id)],
                jobs,
                ..CommandOutput::complete(answer, event)
            })
        }
        .boxed()
    }
}
