//! Upstreams: state, pause and resume. For operators.

use axum::{Json, extract::State};
use dezky_shared::{
    audit::Action, queue::pause::Pause, store::upstreams::UpstreamState, upstream::Upstream,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::ApiError,
    etag::ETag,
    extract::{EmptyBody, Operator, PageOf, PathParam},
    response::ApiResponse,
    routes::target,
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

/// An upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct UpstreamView {
    /// Name.
    #[schema(example = "stalwart")]
    name: &'static str,
    /// State, by the most severe obstacle: `ok`, `paused`, `credentials_refused`, `away` or `slowed`.
    state: &'static str,
    /// Time of the pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<Timestamp>,
    /// Id of the user who paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    /// State of the credentials.
    credentials: CredentialsView,
    /// Circuit breaker, as a worker last reported it; missing until the first report.
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit: Option<CircuitView>,
}

/// State of an upstream's credentials.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
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

/// Circuit breaker of an upstream.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
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
async fn list(
    _: Operator,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<UpstreamView>>, ApiError> {
    let states = app.db.upstreams.list().await?;
    let views = Upstream::ALL.map(|upstream| {
        let state = states.iter().find(|state| state.upstream == upstream);
        UpstreamView::from(state.unwrap_or(&UpstreamState::unknown(upstream)))
    });
    Ok(Json(PageOf::single(views.into())))
}

/// Returns an upstream
#[utoipa::path(
    get, path = "/upstreams/{name}", operation_id = "getUpstream", tag = "operations",
    params(("name" = String, Path, pattern = "^(authentik|stalwart|ocis)$")),
    responses((status = 200, body = UpstreamView)),
)]
async fn show(
    _: Operator,
    PathParam(upstream): PathParam<Upstream>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    Ok(respond(&app.db.upstreams.find(upstream).await?))
}

/// Pauses an upstream
///
/// Within about a second workers start no more steps that call it. Other steps of the same jobs continue.
#[utoipa::path(
    post, path = "/upstreams/{name}/pause", operation_id = "pauseUpstream", tag = "operations",
    params(("name" = String, Path, pattern = "^(authentik|stalwart|ocis)$")),
    responses((status = 200, body = UpstreamView)),
)]
async fn pause(
    w: Write<Operator, EmptyBody, PathParam<Upstream>>,
) -> Result<ApiResponse, ApiError> {
    change(&w, UpstreamAction::Pause).await
}

/// Resumes an upstream
///
/// Deferred jobs are released gradually. While the circuit is open or the credentials are rejected, some jobs probe the
/// upstream at once.
#[utoipa::path(
    post, path = "/upstreams/{name}/resume", operation_id = "resumeUpstream", tag = "operations",
    params(("name" = String, Path, pattern = "^(authentik|stalwart|ocis)$")),
    responses((status = 200, body = UpstreamView)),
)]
async fn resume(
    w: Write<Operator, EmptyBody, PathParam<Upstream>>,
) -> Result<ApiResponse, ApiError> {
    change(&w, UpstreamAction::Resume).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UpstreamAction {
    Pause,
    Resume,
}

struct UpstreamChange {
    before: UpstreamState,
    action: UpstreamAction,
}

async fn change(
    w: &Write<Operator, EmptyBody, PathParam<Upstream>>,
    action: UpstreamAction,
) -> Result<ApiResponse, ApiError> {
    let before = w.app.db.upstreams.find(w.params.0).await?;
    w.run(&UpstreamChange { before, action }).await
}

impl Command for UpstreamChange {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let upstream = self.before.upstream;
        let upstreams = &runner.app.db.upstreams;
        let now = runner.app.store.now();
        let (after, action) = match self.action {
            UpstreamAction::Pause if self.before.paused.is_some() => (self.before.clone(), None),
            UpstreamAction::Pause => {
                let pause = Pause {
                    at: now,
                    by: runner.actor_id(),
                };
                let paused = upstreams.pause(session, upstream, &pause).await?;
                (paused, Some(Action::UpstreamPause))
            }
            // Even if it is not paused: this forces a probe.
            UpstreamAction::Resume => {
                let resumed = upstreams.resume(session, upstream, now).await?;
                (resumed, Some(Action::UpstreamResume))
            }
        };
        let target = target("upstream", upstream.name(), upstream.name());
        let event = action.map(|action| runner.event(now, action, target, None));
        Ok(CommandOutput::unchanged(respond(&after)).with_events(event.into_iter().collect()))
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
            "paused"
        } else if upstream.refused_at.is_some() {
            "credentials_refused"
        } else if upstream.open_since().is_some() {
            "away"
        } else if is_slowed {
            "slowed"
        } else {
            "ok"
        };
        Self {
            name: upstream.upstream.name(),
            state,
            paused_at: upstream.paused.as_ref().map(|pause| pause.at.into()),
            paused_by: upstream.paused.as_ref().map(|pause| pause.by.clone()),
            credentials: CredentialsView {
                refused: upstream.refused_at.is_some(),
                refused_at: upstream.refused_at.map(Timestamp::from),
                next_probe_at: upstream.probe_at.map(Timestamp::from),
            },
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
