//! A partner's team: who works for it, and what they may do.
//!
//! Who is on the team is what MongoDB says, from the moment it is said; the partner's group at the identity provider
//! follows by a job. A new member is the exception: they are on the team once the job has found or made their account.

mod change;
mod invariants;
mod invitation_link;
mod invite;
mod refresh;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bson::{Document, doc};
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    id::{PartnerId, UserId},
    partner::Partner,
    queue::{args::SyncPartnerTeam, job::Job},
    store::{TransactionError, jobs::NewJob},
    user::{MfaCheck, PartnerRole, User},
};
use http::{HeaderName, HeaderValue, StatusCode};
use mongodb::ClientSession;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::invariants::check_team_invariants;
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{Operator, Page, PageOf, PartnerAccess, PathParam, QueryParams, Read},
    intent::{CommandError, CommandResult, CommandRunner},
    routes::jobs::{JobLink, until_final},
    state::{AppState, SharedState},
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_by_operator))
        .routes(routes!(invite::invite))
        .routes(routes!(invite::invite_by_operator))
        .routes(routes!(change::patch))
        .routes(routes!(change::remove))
        .routes(routes!(refresh::refresh))
        .routes(routes!(invitation_link::show))
}

/// What somebody may do for their partner.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum AccessLevel {
    /// Everything, the team included.
    Owner,
    /// Everything but the team.
    Manager,
    /// Reads, and helps.
    Support,
    /// Reads.
    ReadOnly,
}

/// Whether somebody has come yet.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MemberStatus {
    /// They were invited, and have not signed in.
    Invited,
    /// They have.
    Active,
}

/// Somebody who works for a partner.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    /// Their id.
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    /// Their address.
    email: String,
    /// Their name.
    name: String,
    /// What they may do; of somebody who was just removed, what they could.
    access_level: AccessLevel,
    /// Whether they have come yet.
    status: MemberStatus,
    /// When they were last seen.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Their MFA devices, once a job has looked.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
    /// + 1 with every change.
    revision: i64,
    /// The job that carries out what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// What a job found when it looked for somebody's MFA devices.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MfaView {
    /// How many there are; codes for recovery do not count.
    #[schema(minimum = 0)]
    devices: i32,
    /// When it looked.
    looked_up_at: Timestamp,
}

impl From<PartnerRole> for AccessLevel {
    fn from(role: PartnerRole) -> Self {
        match role {
            PartnerRole::Owner => Self::Owner,
            PartnerRole::Manager => Self::Manager,
            PartnerRole::Support => Self::Support,
            PartnerRole::ReadOnly => Self::ReadOnly,
        }
    }
}

impl From<MfaCheck> for MfaView {
    fn from(look: MfaCheck) -> Self {
        Self {
            devices: look.devices,
            looked_up_at: look.looked_up_at.into(),
        }
    }
}

impl From<User> for MemberView {
    fn from(user: User) -> Self {
        Self {
            status: if user.has_signed_in() {
                MemberStatus::Active
            } else {
                MemberStatus::Invited
            },
            id: user.id,
            email: user.email,
            name: user.name,
            access_level: user.partner_role.unwrap_or(PartnerRole::ReadOnly).into(),
            last_seen_at: user.last_seen_at.map(Timestamp::from),
            mfa: user.mfa.map(MfaView::from),
            revision: user.revision,
            job: None,
        }
    }
}

/// The caller's team
#[utoipa::path(
    get, path = "/partner/team", operation_id = "listTeam", tag = "partners", params(Page),
    responses((status = 200, body = PageOf<MemberView>), (status = "default", response = Problem)),
)]
async fn list(
    access: PartnerAccess<Read>,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<MemberView>>, ApiError> {
    page_of(&app, access.partner.id, &page).await
}

/// A partner's team
#[utoipa::path(
    get, path = "/partners/{slug}/team", operation_id = "listPartnerTeam", tag = "partners", params(("slug" = String, Path), Page),
    responses((status = 200, body = PageOf<MemberView>), (status = "default", response = Problem)),
)]
async fn list_by_operator(
    _: Operator,
    PathParam(slug): PathParam<String>,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<MemberView>>, ApiError> {
    let partner = partner_named(&app, &slug).await?;
    page_of(&app, partner.id, &page).await
}

async fn page_of(
    app: &AppState,
    partner_id: PartnerId,
    page: &Page,
) -> Result<Json<PageOf<MemberView>>, ApiError> {
    let list = format!("team?{partner_id}");
    let after: Option<UserId> = page.after(&list)?;
    let users = &app.users;
    let team = users
        .list_team_page(partner_id, after, page.fetch_limit())
        .await?;
    Ok(Json(page.build(
        &list,
        team,
        |user| user.id.to_string(),
        MemberView::from,
    )))
}

/// The answer to a change; with where its job stands once that is over, if it is before `deadline`.
async fn answer(
    recorder: &CommandRunner<'_>,
    outcome: CommandResult,
    deadline: Option<Instant>,
) -> Result<Response, ApiError> {
    let mut answer = outcome.answer;
    let (Some(job), Some(deadline)) = (outcome.job, deadline) else {
        return Ok(answer.into_response());
    };
    let mut caller = recorder.caller.clone();
    let job = match until_final(recorder.app, &mut caller, job, deadline).await {
        Ok(job) => job,
        // Whoever removed themselves may not look at it any more.
        Err(error) if error.code == ProblemCode::NotFound => return Ok(answer.into_response()),
        Err(error) => return Err(error),
    };
    if job.state.is_final() {
        answer.status = StatusCode::OK;
    }
    answer.body["job"]["state"] = job.state.name().into();
    let mut response = answer.into_response();
    response.headers_mut().insert(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static("wait"),
    );
    Ok(response)
}

async fn partner_named(app: &AppState, slug: &str) -> Result<Partner, ApiError> {
    let partner = app.partners.find_by_slug(slug).await?;
    partner.ok_or_else(|| ProblemCode::NotFound.into())
}

/// An access level, as callers write it.
fn access_level(text: &str) -> Result<PartnerRole, (&'static str, String)> {
    const EXPECTED: &str = "owner, manager, support or read-only";
    crate::validate::word(text, "invalid_access_level", EXPECTED)
}

/// An event about the team, in the platform's trail.
fn event(recorder: &CommandRunner<'_>, action: Action, target: Target) -> AuditEvent {
    recorder.event(recorder.app.store.now(), action, target, None)
}

/// What was done to a partner.
fn partner_target(partner: &Partner) -> Target {
    Target {
        kind: "partner".to_owned(),
        id: partner.id.to_string(),
        name: partner.slug.clone(),
    }
}

/// What was done to somebody.
fn user_target(id: UserId, email: &str) -> Target {
    Target {
        kind: "user".to_owned(),
        id: id.to_string(),
        name: email.to_owned(),
    }
}

/// What the audit trail shows of somebody's place on a team.
fn audited(user: &User) -> Document {
    let mut shown = Document::new();
    if let Some(id) = user.partner_id {
        let level = user.partner_role.unwrap_or(PartnerRole::ReadOnly);
        shown.extend(doc! { "partnerId": id.to_string(), "accessLevel": level.name() });
    }
    shown
}

/// Has a partner's group follow who works for it, and the sessions of those who do not any more.
pub(super) async fn sync_team(
    recorder: &CommandRunner<'_>,
    session: &mut ClientSession,
    partner_id: PartnerId,
) -> Result<Job, TransactionError<CommandError>> {
    let app = recorder.app;
    let args = SyncPartnerTeam { partner_id };
    let sync = NewJob::new(&args, &recorder.actor_id(), app.store.now())?;
    Ok(app
        .jobs
        .enqueue(session, &requested(recorder, sync))
        .await?)
}

/// A job that the request asks for.
fn requested(recorder: &CommandRunner<'_>, job: NewJob) -> NewJob {
    let request = recorder.request;
    job.requested_by(Some(request.id.clone()), request.traceparent.clone())
}
