//! Somebody whom operators add before they sign in.

use std::collections::BTreeMap;

use axum::extract::State;
use bson::{DateTime, Document};
use dezky_shared::{
    audit::Action,
    id::{PartnerId, UserId},
    store::TransactionError,
    user::{PartnerRole, User},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    UserDetail,
    audit::{audited, target},
    detail,
    patch::without_partner,
    roles::{self, ResolvedRole, Roles},
};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{Operator, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    routes::partner_team::{check_team_invariants, sync_team},
    state::{AppState, SharedState},
    validate::{self, Validator, unique_keys, user},
};

/// Somebody to be known before they sign in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewUser)]
pub(super) struct CreateRequest {
    /// The identity provider's id of them: the `sub` of their tokens, by which alone they are found.
    #[schema(format = Uuid)]
    authentik_subject_id: String,
    /// Their address, until a token of theirs says another.
    #[schema(format = Email, max_length = 254, example = "ada@example.com")]
    email: String,
    /// Their name, until a token of theirs says another.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// Roles by tenant, which is named by its id or slug: `member`, `admin` or `owner`.
    #[serde(default, deserialize_with = "unique_keys")]
    tenant_roles: BTreeMap<String, String>,
    /// Whether they are an operator. Unless it is said, the groups in their tokens say so.
    platform_admin: Option<bool>,
    /// The partner they work for.
    #[schema(format = Uuid)]
    partner_id: Option<String>,
    /// What they may do there: `owner`, `manager`, `support` or `read-only`, which it is unless said otherwise.
    #[schema(pattern = "^(owner|manager|support|read-only)$")]
    partner_role: Option<String>,
}

/// Somebody to be added.
#[derive(Debug)]
pub(super) struct NewUser {
    subject: String,
    email: String,
    name: String,
    roles: Roles,
    platform_admin: Option<bool>,
    partner_id: Option<PartnerId>,
    partner_role: Option<PartnerRole>,
}

impl Validate for NewUser {
    type Raw = CreateRequest;

    fn validate(wire: CreateRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let subject = user::subject(&wire.authentik_subject_id);
        let subject = checks.check("/authentikSubjectId", subject);
        let email = checks.check("/email", validate::email(&wire.email));
        let name = checks.check("/name", validate::name(&wire.name));
        let texts = wire.tenant_roles.into_iter();
        let roles = texts.map(|(tenant, role)| (tenant, Some(role))).collect();
        let roles = roles::roles(&mut checks, roles);
        if wire.partner_role.is_some() && wire.partner_id.is_none() {
            checks.note(without_partner());
        }
        let partner_id = wire
            .partner_id
            .and_then(|id| checks.check("/partnerId", validate::id(&id)));
        let partner_role = wire
            .partner_role
            .and_then(|text| checks.check("/partnerRole", user::partner_role(&text)));
        let whole = subject.zip(email).zip(name);
        checks.finish(whole.map(|((subject, email), name)| Self {
            subject,
            email,
            name,
            roles,
            platform_admin: wire.platform_admin,
            partner_id,
            partner_role,
        }))
    }
}

/// Adds somebody before they sign in
///
/// They are who signs in with this id. What is set here is left alone by the groups in their tokens.
#[utoipa::path(
    post, path = "/users", operation_id = "createUser", tag = "users", request_body = CreateRequest,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = UserDetail), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<NewUser>,
) -> Result<ApiResponse, ApiError> {
    let new = &submitted.body;
    let places = roles::resolve(&app, &new.roles, new.partner_id).await?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let create = Create {
        id: UserId::new(),
        new,
        places,
    };
    Ok(recorder.record(&create).await?.answer)
}

struct Create<'a> {
    id: UserId,
    new: &'a NewUser,
    places: Vec<ResolvedRole>,
}

impl Create<'_> {
    /// `first_seen` with what is said of them.
    fn user(&self, first_seen: User, now: DateTime) -> User {
        let new = self.new;
        let mut user = User {
            id: self.id,
            partner_id: new.partner_id,
            partner_role: new.partner_role,
            ..first_seen
        };
        for place in &self.places {
            user.set_role(place.tenant.id, place.role, now);
        }
        if let Some(flag) = new.platform_admin {
            user.set_platform_admin(flag, now);
        }
        user
    }
}

impl Command for Create<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let NewUser {
                subject,
                email,
                name,
                ..
            } = self.new;
            let first_seen = app.users.new_user(session, subject, email, name, now);
            let user = self.user(first_seen.await?, now);
            check_team_invariants(session, app, None, Some(&user)).await?;
            app.users.insert(session, &user).await?;
            let mut event = recorder
                .event(now, Action::UserCreate, target(&user), None)
                .with_changes(&Document::new(), &audited(&user));
            let mut jobs = Vec::new();
            if let Some(partner) = user.partner_id {
                jobs.push(sync_team(recorder, session, partner).await?);
            }
            event.job_id = jobs.first().map(|job| job.id);
            let mut answer = detail(app, &user).await.map_err(reject)?;
            answer.status = StatusCode::CREATED;
            let answer = answer.at(format!("/users/{}", user.id));
            Ok(CommandOutput {
                jobs,
                ..CommandOutput::complete(answer, event)
            })
        }
        .boxed()
    }
}
