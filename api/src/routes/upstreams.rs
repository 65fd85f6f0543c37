//! The upstreams: how each stands, and stopping work with one for a while.

use axum::{Json, extract::State, response::IntoResponse as _};
use dezky_shared::{
    audit::{Action, Target},
    queue::pause::Pause,
    store::{TransactionError, upstreams::UpstreamState},
    upstream::Upstream,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Problem},
    extract::{
        Caller, ETag, EmptyBody, Operator, PageOf, PathParam, QueryParams, RequestInfo,
        ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    timestamp::Timestamp,
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
    /// Its name.
    #[schema(example = "stalwart")]
    name: &'static str,
    /// What keeps steps from it, if anything: `ok`, `paused`, `credentials_refused`, `away` or `slowed`.
    state: &'static str,
    /// Since when it is paused.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<Timestamp>,
    /// Which user paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    /// Whether it takes our credentials.
    credentials: CredentialsView,
    /// How it stood when a worker last looked; missing until one did.
    #[serde(skip_serializing_if = "Option::is_none")]
    circuit: Option<CircuitView>,
}

/// Whether an upstream takes our credentials.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CredentialsView {
    /// Whether it refuses them.
    refused: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    refused_at: Option<Timestamp>,
    /// When one job tries them again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe_at: Option<Timestamp>,
}

/// How an upstream stood.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CircuitView {
    /// Whether it counts as away.
    open: bool,
    /// Failures in a row.
    failures: u32,
    /// Since when it counts as away.
    #[serde(skip_serializing_if = "Option::is_none")]
    opened_at: Option<Timestamp>,
    /// When one job tries whether it is back.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_probe_at: Option<Timestamp>,
    /// Until when it asked to be left alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    slow_until: Option<Timestamp>,
    /// When one more step would have its turn, where that was not at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_turn_at: Option<Timestamp>,
    /// When a worker looked. If that is long ago, no worker lives.
    seen_at: Timestamp,
}

/// The upstreams
#[utoipa::path(
    get, path = "/upstreams", operation_id = "listUpstreams", tag = "operations",
    responses((status = 200, body = PageOf<UpstreamView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<UpstreamView>>, ApiError> {
    let known = app.upstreams.list().await?;
    let views = Upstream::ALL.map(|upstream| {
        let health = known.iter().find(|health| health.upstream == upstream);
        UpstreamView::from(health.unwrap_or(&UpstreamState::unknown(upstream)))
    });
    Ok(Json(PageOf::single(views.into())))
}

/// An upstream
#[utoipa::path(
    get, path = "/upstreams/{name}", operation_id = "getUpstream", tag = "operations",
    params(("name" = String, Path, pattern = "^(authentik|stalwart|ocis)$")),
    responses((status = 200, body = UpstreamView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(upstream): PathParam<Upstream>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<axum::response::Response, ApiError> {
    let health = app.upstreams.find(upstream).await?;
    let etag = ETag::of_revision(health.revision);
    Ok(ApiResponse::new(StatusCode::OK, etag, &UpstreamView::from(&health))?.into_response())
}

/// Stops all work with an upstream for a while
///
/// Within about a second no worker begins a step that needs it. Other steps of the same jobs go on.
#[utoipa::path(
    post, path = "/upstreams/{name}/pause", operation_id = "pauseUpstream", tag = "operations",
    params(("name" = String, Path, pattern = "^(authentik|stalwart|ocis)$"), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = UpstreamView), (status = "default", response = Problem)),
)]
async fn pause(
    Operator(caller): Operator,
    PathParam(upstream): PathParam<Upstream>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    change(&app, &caller, &request, &submitted, upstream, Wanted::Pause).await
}

/// Has work with an upstream go on
///
/// What waited for it is let go, not all at once. While the upstream is away or refuses our credentials, some jobs try
/// again now instead of at the next probe.
#[utoipa::path(
    post, path = "/upstreams/{name}/resume", operation_id = "resumeUpstream", tag = "operations",
    params(("name" = String, Path, pattern = "^(authentik|stalwart|ocis)$"), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = UpstreamView), (status = "default", response = Problem)),
)]
async fn resume(
    Operator(caller): Operator,
    PathParam(upstream): PathParam<Upstream>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    change(
        &app,
        &caller,
        &request,
        &submitted,
        upstream,
        Wanted::Resume,
    )
    .await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Pause,
    Resume,
}

struct UpstreamChange {
    before: UpstreamState,
    wanted: Wanted,
}

async fn change(
    app: &AppState,
    caller: &Caller,
    request: &RequestInfo,
    submitted: &ValidatedJson<EmptyBody>,
    upstream: Upstream,
    wanted: Wanted,
) -> Result<ApiResponse, ApiError> {
    let before = app.upstreams.find(upstream).await?;
    let recorder = CommandRunner::new(app, caller, request, submitted.key.as_ref());
    let change = UpstreamChange { before, wanted };
    Ok(recorder.record(&change).await?.answer)
}

impl Command for UpstreamChange {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let upstream = self.before.upstream;
            let upstreams = &recorder.app.upstreams;
            let now = recorder.app.store.now();
            let (after, action) = match self.wanted {
                Wanted::Pause if self.before.paused.is_some() => (self.before.clone(), None),
                Wanted::Pause => {
                    let pause = Pause {
                        at: now,
                        by: recorder.actor_id(),
                    };
                    let paused = upstreams.pause(session, upstream, &pause).await?;
                    (paused, Some(Action::UpstreamPause))
                }
                // Also of one that is not paused: it is tried at once.
                Wanted::Resume => {
                    let resumed = upstreams.resume(session, upstream, now).await?;
                    (resumed, Some(Action::UpstreamResume))
                }
            };
            let target = || Target {
                kind: "upstream".to_owned(),
                id: upstream.name().to_owned(),
                name: upstream.name().to_owned(),
            };
            let event = action.map(|action| recorder.event(now, action, target(), None));
            let view = UpstreamView::from(&after);
            let etag = ETag::of_revision(after.revision);
            Ok(CommandOutput {
                answer: ApiResponse::new(StatusCode::OK, etag, &view).map_err(reject)?,
                jobs: Vec::new(),
                changed: Vec::new(),
                events: event.into_iter().collect(),
            })
        }
        .boxed()
    }
}

impl From<&UpstreamState> for UpstreamView {
    fn from(health: &UpstreamState) -> Self {
        let slowed = health
            .seen
            .as_ref()
            .is_some_and(|seen| seen.slow_until.is_some());
        let state = if health.paused.is_some() {
            "paused"
        } else if health.refused_at.is_some() {
            "credentials_refused"
        } else if health.open_since().is_some() {
            "away"
        } else if slowed {
            "slowed"
        } else {
            "ok"
        };
        Self {
            name: health.upstream.name(),
            state,
            paused_at: health.paused.as_ref().map(|pause| pause.at.into()),
            paused_by: health.paused.as_ref().map(|pause| pause.by.clone()),
            credentials: CredentialsView {
                refused: health.refused_at.is_some(),
                refused_at: health.refused_at.map(Timestamp::from),
                next_probe_at: health.probe_at.map(Timestamp::from),
            },
            circuit: health.seen.as_ref().map(|seen| CircuitView {
                open: seen.open_since.is_some(),
                failures: seen.failures,
                opened_at: seen.open_since.map(Timestamp::from),
                next_probe_at: seen.probe_at.map(Timestamp::from),
                slow_until: seen.slow_until.map(Timestamp::from),
                next_turn_at: seen.next_turn_at.map(Timestamp::from),
                seen_at: seen.at.into(),
            }),
        }
    }
}
