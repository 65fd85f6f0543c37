//! Changing what somebody on the team may do, and letting them go.

use axum::{extract::State, response::Response};
use dezky_shared::{
    audit::Action,
    id::{PartnerId, UserId},
    partner::PartnerStatus,
    platform::change_feed::DocumentChange,
    store::TransactionError,
    user::{PartnerRole, User},
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    AccessLevel, MemberView, access_level, answer, audited, check_team_invariants, event,
    sync_team, user_target,
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, IfMatch, ManageTeam, PartnerAccess, PathParam, Prefer, QueryParams,
        RequestInfo, Validate, ValidatedJson,
    },
    intent::{
        ApiResponse, Command, CommandError, CommandOutput, CommandResult, CommandRunner, reject,
    },
    routes::jobs::JobLink,
    state::{AppState, SharedState},
    validate::Validator,
};

/// What somebody is to be allowed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct MemberPatch {
    /// What they may do.
    #[schema(value_type = AccessLevel)]
    access_level: String,
}

/// What is to become of somebody's place on the team.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// They may do this.
    Level(PartnerRole),
    /// They have none any more.
    Removal,
}

impl Validate for Wanted {
    type Raw = MemberPatch;

    fn validate(wire: MemberPatch, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let level = checks.check("/accessLevel", access_level(&wire.access_level));
        checks.finish(level.map(Self::Level))
    }
}

/// Says what a member of the caller's team may do
///
/// A partner keeps its last owner: 409 `last_owner`.
#[utoipa::path(
    patch, path = "/partner/team/{id}", operation_id = "updateMember", tag = "partners", request_body = MemberPatch,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = MemberView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: PartnerAccess<ManageTeam>,
    PathParam(id): PathParam<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Wanted>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let change = MemberChange {
        partner_id: access.partner.id,
        id,
        if_match: &if_match,
        wanted: submitted.body,
    };
    Ok(change.carry_out(&recorder).await?.answer)
}

/// Removes a member from the caller's team
///
/// They may do nothing for the partner from this moment on. The job takes them out of its group, and ends their
/// sessions. Invitations of theirs, and links that were not shown, are taken back.
#[utoipa::path(
    delete, path = "/partner/team/{id}", operation_id = "removeMember", tag = "partners",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = MemberView), (status = 200, body = MemberView), (status = "default", response = Problem)),
)]
#[expect(clippy::too_many_arguments, reason = "each is an extractor")]
pub(super) async fn remove(
    access: PartnerAccess<ManageTeam>,
    PathParam(id): PathParam<UserId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let deadline = prefer.deadline();
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let change = MemberChange {
        partner_id: access.partner.id,
        id,
        if_match: &if_match,
        wanted: Wanted::Removal,
    };
    let outcome = change.carry_out(&recorder).await?;
    answer(&recorder, outcome, deadline).await
}

/// A change to somebody's place on the team.
struct MemberChange<'a> {
    partner_id: PartnerId,
    id: UserId,
    if_match: &'a IfMatch,
    wanted: Wanted,
}

impl MemberChange<'_> {
    async fn carry_out(&self, recorder: &CommandRunner<'_>) -> Result<CommandResult, ApiError> {
        let line = self.partner_id.to_string();
        recorder
            .serialized_on(&line, None)
            .await?
            .record(self)
            .await
    }

    /// Somebody who works for the partner, to be changed in this transaction.
    async fn lock(
        &self,
        session: &mut ClientSession,
        recorder: &CommandRunner<'_>,
    ) -> Result<User, TransactionError<CommandError>> {
        let app = recorder.app;
        // Written, not read: else two who take away one of two owners each would see the other.
        let partner = app
            .partners
            .find_for_update(session, self.partner_id)
            .await?;
        app.partners.unlock(session, self.partner_id).await?;
        if partner.is_none_or(|partner| partner.status == PartnerStatus::Terminated) {
            return Err(reject(ProblemCode::Forbidden));
        }
        let user = app.users.find_for_update(session, self.id).await?;
        user.filter(|user| user.partner_id == Some(self.partner_id))
            .ok_or_else(|| reject(ProblemCode::NotFound))
    }
}

impl Command for MemberChange<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let mut user = self.lock(session, recorder).await?;
            let known = User {
                revision: user.revision - 1,
                ..user.clone()
            };
            self.if_match.check(ETag::from(&known)).map_err(reject)?;
            if self.wanted == Wanted::Level(level_of(&known)) {
                app.users.unlock(session, self.id).await?;
                return Ok(CommandOutput {
                    answer: answer_with(StatusCode::OK, known, None).map_err(reject)?,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            }

            let now = app.store.now();
            user.updated_at = now;
            let mut job = None;
            let action = match self.wanted {
                Wanted::Level(level) => {
                    user.partner_role = Some(level);
                    Action::PartnerMemberUpdate
                }
                Wanted::Removal => {
                    user.partner_id = None;
                    user.partner_role = None;
                    let invitations = &app.invitations;
                    invitations
                        .withdraw_from(session, self.partner_id, &known)
                        .await?;
                    job = Some(sync_team(recorder, session, self.partner_id).await?);
                    Action::PartnerMemberRemove
                }
            };
            check_team_invariants(session, app, Some(&known), Some(&user)).await?;
            app.users.save(session, &user).await?;
            let mut event = event(recorder, action, user_target(self.id, &user.email))
                .with_changes(&audited(&known), &audited(&user));
            event.job_id = job.as_ref().map(|job| job.id);

            let link = job.as_ref().map(JobLink::from);
            let status = match self.wanted {
                Wanted::Level(_) => StatusCode::OK,
                Wanted::Removal => StatusCode::ACCEPTED,
            };
            // Somebody who was removed is shown with what they could do.
            let shown = User {
                partner_role: user.partner_role.or(known.partner_role),
                ..user
            };
            Ok(CommandOutput {
                answer: answer_with(status, shown, link).map_err(reject)?,
                jobs: job.into_iter().collect(),
                changed: vec![DocumentChange::User(self.id)],
                events: vec![event],
            })
        }
        .boxed()
    }
}

fn level_of(user: &User) -> PartnerRole {
    user.partner_role.unwrap_or(PartnerRole::ReadOnly)
}

fn answer_with(
    status: StatusCode,
    user: User,
    job: Option<JobLink>,
) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(&user);
    let location = job.as_ref().map(|job| job.href.clone());
    let view = MemberView {
        job,
        ..MemberView::from(user)
    };
    let mut answer = ApiResponse::new(status, etag, &view)?;
    answer.location = location;
    Ok(answer)
}
