//! Upstreams: state, pause and resume. For operators.

use axum::Json;
use dezky_shared::{
    audit::{Action, Target},
    platform::change_feed::DocumentChange,
    store::upstreams::{MissingPermission, UpstreamState},
    upstream::Upstream,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    etag::ETag,
    extract::{EmptyBody, Operator, PageOf, PathParam, PlatformReader},
    read::{Get, ListResult},
    response::ApiResponse,
    routes::pauses::{NewPause, PauseRequest, audited},
    state::SharedState,
    timestamp::Timestamp,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// State of an upstream.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = UpstreamState)]
enum UpstreamCondition {
    /// No obstacle.
    Ok,
    /// Paused by an operator.
    Paused,
    /// It rejects our credentials.
    CredentialsRefused,
    /// It denies an operation to our account.
    PermissionMissing,
    /// Its circuit breaker is open.
    Away,
    /// It asked for fewer requests.
    Slowed,
}

/// An upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Upstream)]
struct UpstreamView {
    /// Name.
    name: Upstream,
    /// State, by the most severe obstacle.
    state: UpstreamCondition,
    /// Time of the pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<Timestamp>,
    /// Id of the user who paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    /// Reason of the pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_reason: Option<String>,
    /// Time at which the pause ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_until: Option<Timestamp>,
    /// State of the credentials.
    credentials: CredentialsView,
    /// Permission that our account lacks; missing if none.
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<PermissionView>,
    /// Circuit breaker, as a worker last reported it; missing until the first report.
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit: Option<CircuitView>,
}

/// State of an upstream's credentials.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpstreamCredentials)]
struct CredentialsView {
    /// Whether the upstream rejects them.
    refused: bool,
    /// Time of the first rejection.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_at: Option<Timestamp>,
    /// Time of the next credential probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe_at: Option<Timestamp>,
}

/// A permission that our account lacks in an upstream. Resuming the upstream releases the held jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpstreamPermission)]
struct PermissionView {
    /// Time of the first refusal among the held jobs.
    since: Timestamp,
    /// Operation that was refused last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "create_group")]
    operation: Option<String>,
    /// That refusal.
    detail: String,
    /// Number of held jobs, at most 1,000.
    jobs: i64,
}

/// Circuit breaker of an upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = UpstreamCircuit)]
struct CircuitView {
    /// Whether the circuit is open.
    open: bool,
    /// Consecutive failures.
    failures: u32,
    /// Time at which it opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_at: Option<Timestamp>,
    /// Time of the next half-open probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe_at: Option<Timestamp>,
    /// End of the `Retry-After` period of the upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_until: Option<Timestamp>,
    /// Time of the next free slot in the rate budget, unless there is one now.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_turn_at: Option<Timestamp>,
    /// Time of the report. No worker is live if it is old.
    seen_at: Timestamp,
}

/// Lists upstreams
#[utoipa::path(get, path = "/upstreams", operation_id = "listUpstreams", tag = "operations", responses((status = 200, body = PageOf<UpstreamView>)))]
async fn list(get: Get<PlatformReader>) -> ListResult<UpstreamView> {
    let states = get.app.db.upstreams.list().await?;
    // The payment provider once a worker has used it.
    let views = Upstream::CALLED.into_iter().filter_map(|upstream| {
        match states.iter().find(|state| state.upstream == upstream) {
            Some(state) => Some(UpstreamView::from(state)),
            None => upstream
                .is_provisioned()
                .then(|| UpstreamView::from(&UpstreamState::unknown(upstream))),
        }
    });
    Ok(Json(PageOf::single(views.collect())))
}

/// Returns an upstream
#[utoipa::path(
    get, path = "/upstreams/{name}", operation_id = "getUpstream", tag = "operations",
    params(("name" = Upstream, Path)),
    responses((status = 200, body = UpstreamView)),
)]
async fn show(get: Get<PlatformReader, PathParam<Upstream>>) -> Result<ApiResponse, ApiError> {
    Ok(respond(&get.app.db.upstreams.find(get.params.0).await?))
}

/// Pauses an upstream
///
/// Within about a second workers start no more steps that call it. Other steps of the same jobs continue. A pause with
/// `until` ends by itself.
#[utoipa::path(
    post, path = "/upstreams/{name}/pause", operation_id = "pauseUpstream", tag = "operations",
    params(("name" = Upstream, Path)), request_body = Option<PauseRequest>,
    responses((status = 200, body = UpstreamView)),
)]
async fn pause(w: Write<Operator, NewPause, PathParam<Upstream>>) -> Result<ApiResponse, ApiError> {
    change(&w, UpstreamAction::Pause(&w.body)).await
}

/// Resumes an upstream
///
/// Deferred jobs are released gradually, also those that are held because of a missing permission. While the circuit is
/// open or the credentials are rejected, some jobs probe the upstream at once.
#[utoipa::path(
    post, path = "/upstreams/{name}/resume", operation_id = "resumeUpstream", tag = "operations",
    params(("name" = Upstream, Path)),
    responses((status = 200, body = UpstreamView)),
)]
async fn resume(
    w: Write<Operator, EmptyBody, PathParam<Upstream>>,
) -> Result<ApiResponse, ApiError> {
    change(&w, UpstreamAction::Resume).await
}

#[derive(Debug, Clone, Copy)]
enum UpstreamAction<'a> {
    Pause(&'a NewPause),
    Resume,
}

struct UpstreamChange<'a> {
    before: UpstreamState,
    action: UpstreamAction<'a>,
}

async fn change<B: Sync>(
    w: &Write<Operator, B, PathParam<Upstream>>,
    action: UpstreamAction<'_>,
) -> Result<ApiResponse, ApiError> {
    let before = w.app.db.upstreams.find(w.params.0).await?;
    w.run(&UpstreamChange { before, action }).await
}

impl Command for UpstreamChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let upstream = self.before.upstream;
        let upstreams = &runner.app.db.upstreams;
        let now = runner.app.store.now();
        let before = self.before.paused.as_ref();
        let (after, action) = match self.action {
            UpstreamAction::Pause(new) => match new.applied_to(before, now, runner.actor_id())? {
                Some(pause) => {
                    let paused = upstreams.pause(session, upstream, &pause).await?;
                    (paused, Some(Action::UpstreamPause))
                }
                None => (self.before.clone(), None),
            },
            // Even if it is not paused: this forces a probe.
            UpstreamAction::Resume => {
                let resumed = upstreams.resume(session, upstream, now).await?;
                (resumed, Some(Action::UpstreamResume))
            }
        };
        let target = Target::new("upstream", upstream.name(), upstream.name());
        let event = action.map(|action| {
            let event = runner.event(now, action, target, None);
            event.with_changes(&audited(before), &audited(after.paused.as_ref()))
        });
        let output = CommandOutput::unchanged(respond(&after));
        Ok(match event {
            Some(event) => output
                .with_events(vec![event])
                .with_changed(DocumentChange::Control),
            None => output,
        })
    }
}

fn respond(state: &UpstreamState) -> ApiResponse {
    let etag = ETag::of_revision(state.revision);
    ApiResponse::new(StatusCode::OK, etag, &UpstreamView::from(state))
}

impl From<&UpstreamState> for UpstreamView {
    fn from(upstream: &UpstreamState) -> Self {
        let breaker = upstream.seen.as_ref();
        let is_slowed = breaker.is_some_and(|breaker| breaker.slow_until.is_some());
        let state = if upstream.paused.is_some() {
            UpstreamCondition::Paused
        } else if upstream.refused_at.is_some() {
            UpstreamCondition::CredentialsRefused
        } else if upstream.permission.is_some() {
            UpstreamCondition::PermissionMissing
        } else if upstream.open_since().is_some() {
            UpstreamCondition::Away
        } else if is_slowed {
            UpstreamCondition::Slowed
        } else {
            UpstreamCondition::Ok
        };
        Self {
            name: upstream.upstream,
            state,
            paused_at: upstream.paused.as_ref().map(|pause| pause.at.into()),
            paused_by: upstream.paused.as_ref().map(|pause| pause.by.clone()),
            paused_reason: upstream
                .paused
                .as_ref()
                .and_then(|pause| pause.reason.clone()),
            paused_until: upstream
                .paused
                .as_ref()
                .and_then(|pause| pause.until.map(Timestamp::from)),
            credentials: CredentialsView {
                refused: upstream.refused_at.is_some(),
                refused_at: upstream.refused_at.map(Timestamp::from),
                next_probe_at: upstream.probe_at.map(Timestamp::from),
            },
            permission: upstream.permission.as_ref().map(PermissionView::from),
            circuit: breaker.map(|breaker| CircuitView {
                open: breaker.open_since.is_some(),
                failures: breaker.failures,
                opened_at: breaker.open_since.map(Timestamp::from),
                next_probe_at: breaker.probe_at.map(Timestamp::from),
                slow_until: breaker.slow_until.map(Timestamp::from),
                next_turn_at: breaker.next_turn_at.map(Timestamp::from),
                seen_at: breaker.at.into(),
            }),
        }
    }
}

impl From<&MissingPermission> for PermissionView {
    fn from(missing: &MissingPermission) -> Self {
        Self {
            since: missing.since.into(),
            operation: missing.operation.clone(),
            detail: missing.detail.clone(),
            jobs: missing.jobs,
        }
    }
}
