//! Partner team: members and their access levels.
//!
//! Membership is stored in MongoDB and takes effect at once; a job syncs the partner's group at the identity provider.
//! A new member joins when the invitation's job has created their account, or when they have accepted the invitation.

mod consent;
mod invariants;
mod invitation_link;
mod invite;
mod refresh;
mod update;

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
    store::jobs::NewJob,
    user::{MfaCheck, PartnerRole, User},
};
use http::{HeaderName, HeaderValue, StatusCode};
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    extract::{Operator, Page, PageOf, PartnerAccess, PathParam, QueryParams, Read},
    routes::jobs::until_final,
    state::{AppState, SharedState},
    timestamp::Timestamp,
    views::JobLink,
    write::{Command, CommandRunner, Rollback},
};

pub(super) use self::{consent::AwaitingInvitationView, invariants::check_team_invariants};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_by_operator))
        .routes(routes!(invite::invite))
        .routes(routes!(invite::invite_by_operator))
        .routes(routes!(update::update))
        .routes(routes!(update::remove))
        .routes(routes!(refresh::refresh))
        .routes(routes!(invitation_link::show))
        .routes(routes!(consent::accept))
        .routes(routes!(consent::decline))
}

/// Access level of a team member.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum AccessLevel {
    /// Full access, including the team.
    Owner,
    /// Full access, except to the team.
    Manager,
    /// Read access, and support for tenants.
    Support,
    /// Read access.
    ReadOnly,
}

/// Whether a team member has signed in.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MemberStatus {
    /// Invited, not signed in yet.
    Invited,
    /// Signed in at least once.
    Active,
}

/// A member of a partner's team.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MemberView {
    /// User id.
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    /// Email address.
    email: String,
    /// Full name.
    name: String,
    /// Access level; for a removed member, the last one.
    access_level: AccessLevel,
    /// Whether they have signed in.
    status: MemberStatus,
    /// Time of the last request.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// MFA devices; missing until the first check.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
    /// Incremented by every change.
    revision: i64,
    /// The job that carries out the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Result of an MFA device check.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct MfaView {
    /// Number of devices, excluding recovery codes.
    #[schema(minimum = 0)]
    devices: i32,
    /// Time of the check.
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
    fn from(check: MfaCheck) -> Self {
        Self {
            devices: check.devices,
            looked_up_at: check.looked_up_at.into(),
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
            access_level: role_of(&user).into(),
            id: user.id,
            email: user.email,
            name: user.name,
            last_seen_at: user.last_seen_at.map(Timestamp::from),
            mfa: user.mfa.map(MfaView::from),
            revision: user.revision,
            job: None,
        }
    }
}

/// Lists the caller's team
#[utoipa::path(get, path = "/partner/team", operation_id = "listTeam", tag = "partners", params(Page), responses((status = 200, body = PageOf<MemberView>)))]
async fn list(
    access: PartnerAccess<Read>,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<MemberView>>, ApiError> {
    page_of(&app, access.partner.id, &page).await
}

/// Lists a partner's team
#[utoipa::path(
    get, path = "/partners/{slug}/team", operation_id = "listPartnerTeam", tag = "partners", params(Page),
    responses((status = 200, body = PageOf<MemberView>)),
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
    let users = &app.db.users;
    let team = users.list_team_page(partner_id, after, page.fetch_limit());
    let id = |user: &User| user.id.to_string();
    Ok(Json(page.build(&list, team.await?, id, MemberView::from)))
}

/// Runs `command`, one at a time per partner. With `Prefer: wait`, responds when its job has finished.
async fn run_and_wait(
    runner: &CommandRunner<'_>,
    partner_id: PartnerId,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let deadline = runner.prefer.deadline();
    let key = partner_id.to_string();
    let result = runner.run_serialized(&key, None, command).await?;
    let mut response = result.response;
    let (Some(job), Some(deadline)) = (result.job, deadline) else {
        return Ok(response.into_response());
    };
    let mut caller = runner.caller.clone();
    let job = match until_final(runner.app, &mut caller, job, deadline).await {
        Ok(job) => job,
        // Members who removed themselves may not read the job any more.
        Err(error) if error.code == ProblemCode::NotFound => return Ok(response.into_response()),
        Err(error) => return Err(error),
    };
    if job.state.is_final() {
        response.status = StatusCode::OK;
    }
    response.body["job"]["state"] = job.state.name().into();
    let mut response = response.into_response();
    response.headers_mut().insert(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static("wait"),
    );
    Ok(response)
}

async fn partner_named(app: &AppState, slug: &str) -> Result<Partner, ApiError> {
    let partner = app.db.partners.find_by_slug(slug).await?;
    partner.ok_or_else(|| ProblemCode::NotFound.into())
}

/// Parses an access level.
fn access_level(text: &str) -> Result<PartnerRole, (&'static str, String)> {
    const EXPECTED: &str = "owner, manager, support or read-only";
    crate::validate::word(text, "invalid_access_level", EXPECTED)
}

/// A platform event about the team.
fn event(runner: &CommandRunner<'_>, action: Action, target: Target) -> AuditEvent {
    runner.event(runner.app.store.now(), action, target, None)
}

/// Access level of a user in their partner's team.
fn role_of(user: &User) -> PartnerRole {
    user.partner_role.unwrap_or(PartnerRole::ReadOnly)
}

/// Audited fields of a membership.
fn audited(user: &User) -> Document {
    let mut shown = Document::new();
    if let Some(id) = user.partner_id {
        shown.extend(doc! { "partnerId": id.to_string(), "accessLevel": role_of(user).name() });
    }
    shown
}

/// Enqueues the job that syncs a partner's group and ends the sessions of former members.
pub(super) async fn sync_team(
    runner: &CommandRunner<'_>,
    session: &mut ClientSession,
    partner_id: PartnerId,
) -> Result<Job, Rollback> {
    let app = runner.app;
    let args = SyncPartnerTeam { partner_id };
    let sync = NewJob::new(&args, &runner.actor_id(), app.store.now())?;
    Ok(runner.enqueue(session, sync).await?)
}
