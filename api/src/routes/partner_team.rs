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
    response::{IntoResponse as _, Response},
};
use bson::{Document, doc};
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    id::{InvitationId, PartnerId, UserId},
    invitation::Invitation,
    partner::Partner,
    queue::{args::SyncPartnerTeam, job::Job},
    store::jobs::NewJob,
    user::{PartnerRole, User},
};
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, Page, PageOf, PartnerAccess, PathParam, PlatformReader, QueryParams, Read},
    keyed_mutex::partner_key,
    read::{Get, ListResult},
    routes::{
        jobs::until_final,
        mfa::MfaView,
        outcome::{in_state_of, preference_applied},
    },
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

/// Whether a team member has signed in.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = PartnerMemberStatus)]
enum MemberStatus {
    /// Invited, not signed in yet.
    Invited,
    /// Signed in at least once.
    Active,
}

/// A member of a partner's team.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerMember)]
struct MemberView {
    /// User id.
    #[schema(value_type = String, format = Uuid)]
    id: UserId,
    /// E-mail address.
    email: String,
    /// Full name.
    name: String,
    /// Access level; for a removed member, the last one.
    access_level: PartnerRole,
    /// Whether they have signed in.
    status: MemberStatus,
    /// Time of the last request.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_seen_at: Option<Timestamp>,
    /// Second factors; missing until the first look-up.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfa: Option<MfaView>,
    /// Incremented by every change.
    revision: i64,
    /// The job that carries out the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

impl From<User> for MemberView {
    fn from(user: User) -> Self {
        Self {
            status: if user.has_signed_in() {
                MemberStatus::Active
            } else {
                MemberStatus::Invited
            },
            access_level: role_of(&user),
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
#[utoipa::path(get, path = "/partner/team", operation_id = "listOwnPartnerMembers", tag = "partners", params(Page), responses((status = 200, body = PageOf<MemberView>)))]
async fn list(get: Get<PartnerAccess<Read>, QueryParams<Page>>) -> ListResult<MemberView> {
    page_of(&get.app, get.access.partner.id, &get.params.0).await
}

/// Lists a partner's team
#[utoipa::path(
    get, path = "/partners/{slug}/team", operation_id = "listPartnerMembers", tag = "partners", params(Page),
    responses((status = 200, body = PageOf<MemberView>)),
)]
async fn list_by_operator(
    get: Get<PlatformReader, (PathParam<String>, QueryParams<Page>)>,
) -> ListResult<MemberView> {
    let (PathParam(slug), QueryParams(page)) = get.params;
    let partner = partner_named(&get.app, &slug).await?;
    page_of(&get.app, partner.id, &page).await
}

async fn page_of(app: &AppState, partner_id: PartnerId, page: &Page) -> ListResult<MemberView> {
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
    let key = partner_key(partner_id);
    let result = runner.run_serialized(&key, None, command).await?;
    let response = result.response;
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
    Ok(preference_applied(in_state_of(response, &job)))
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

/// The invitation, unless it has expired or `is_visible` hides it from the caller.
async fn find_invitation(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    id: InvitationId,
    is_visible: fn(&Caller, &Invitation) -> bool,
) -> Result<Invitation, Rollback> {
    let CommandRunner { app, caller, .. } = runner;
    let found = app.db.invitations.find_in_transaction(session, id).await?;
    let now = app.store.now();
    found
        .filter(|invitation| invitation.expire_at > now && is_visible(caller, invitation))
        .ok_or(ProblemCode::NotFound.into())
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
