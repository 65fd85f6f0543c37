//! The queues: how much waits in each, and stopping one for a while.

use axum::{Json, extract::State};
use bson::DateTime;
use dezky_shared::{
    audit::{Action, Target},
    platform::clock,
    queue::{job::Queue, pause::Pause},
    store::{
        TransactionError,
        queues::{COUNT_LIMIT, QueueControl, QueueStats},
        workers::Worker,
    },
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
        .routes(routes!(pause))
        .routes(routes!(resume))
}

/// A queue.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct QueueView {
    /// Its name.
    #[schema(example = "provisioning")]
    name: &'static str,
    /// Whether nothing of it is begun.
    paused: bool,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_at: Option<Timestamp>,
    /// Which user paused it.
    #[serde(skip_serializing_if = "Option::is_none")]
    paused_by: Option<String>,
    /// Jobs that are due and wait to be begun, counted up to `countedUpTo`.
    due: u64,
    /// Jobs that wait for their time, counted up to `countedUpTo`.
    scheduled: u64,
    /// Jobs that run.
    running: u64,
    /// No more are counted than this.
    counted_up_to: u64,
    /// Since when the one that waits longest is due.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_due_at: Option<Timestamp>,
    /// The same in seconds, at `measuredAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_due_seconds: Option<f64>,
    /// Workers that take its jobs.
    workers: usize,
    /// How many of its jobs they run at a time, together.
    slots: i64,
    /// When this was counted.
    measured_at: Timestamp,
}

/// The queues
#[utoipa::path(
    get, path = "/queues", operation_id = "listQueues", tag = "operations",
    responses((status = 200, body = PageOf<QueueView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<QueueView>>, ApiError> {
    let workers = app.workers.list().await?;
    let mut views = Vec::new();
    for queue in Queue::ALL {
        let control = app.queues.find(queue).await?;
        let measured = Measured::now(&app, queue, &workers).await?;
        views.push(measured.view(&control));
    }
    Ok(Json(PageOf::single(views)))
}

/// Stops a queue for a while
///
/// Within about a second no worker begins anything of it. What runs goes on to its end; what waits stays.
#[utoipa::path(
    post, path = "/queues/{name}/pause", operation_id = "pauseQueue", tag = "operations",
    params(("name" = String, Path, pattern = "^(provisioning|dns|billing|webhooks|maintenance)$"), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueView), (status = "default", response = Problem)),
)]
async fn pause(
    Operator(caller): Operator,
    PathParam(queue): PathParam<Queue>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    change(&app, &caller, &request, &submitted, queue, true).await
}

/// Has a queue go on
#[utoipa::path(
    post, path = "/queues/{name}/resume", operation_id = "resumeQueue", tag = "operations",
    params(("name" = String, Path, pattern = "^(provisioning|dns|billing|webhooks|maintenance)$"), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = QueueView), (status = "default", response = Problem)),
)]
async fn resume(
    Operator(caller): Operator,
    PathParam(queue): PathParam<Queue>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    change(&app, &caller, &request, &submitted, queue, false).await
}

async fn change(
    app: &AppState,
    caller: &Caller,
    request: &RequestInfo,
    submitted: &ValidatedJson<EmptyBody>,
    queue: Queue,
    paused: bool,
) -> Result<ApiResponse, ApiError> {
    let workers = app.workers.list().await?;
    let change = QueueChange {
        before: app.queues.find(queue).await?,
        measured: Measured::now(app, queue, &workers).await?,
        paused,
    };
    let recorder = CommandRunner::new(app, caller, request, submitted.key.as_ref());
    Ok(recorder.record(&change).await?.answer)
}

struct QueueChange {
    before: QueueControl,
    measured: Measured,
    paused: bool,
}

impl Command for QueueChange {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let queue = self.before.queue;
            let mut after = self.before.clone();
            let mut events = Vec::new();
            if self.before.paused.is_some() != self.paused {
                let now = recorder.app.store.now();
                let pause = self.paused.then(|| Pause {
                    at: now,
                    by: recorder.actor_id(),
                });
                let queues = &recorder.app.queues;
                after = queues.set_pause(session, queue, pause.as_ref()).await?;
                let action = if self.paused {
                    Action::QueuePause
                } else {
                    Action::QueueResume
                };
                let target = Target {
                    kind: "queue".to_owned(),
                    id: queue.name().to_owned(),
                    name: queue.name().to_owned(),
                };
                events.push(recorder.event(now, action, target, None));
            }
            let view = self.measured.view(&after);
            let etag = ETag::of_revision(after.revision);
            Ok(CommandOutput {
                answer: ApiResponse::new(StatusCode::OK, etag, &view).map_err(reject)?,
                jobs: Vec::new(),
                changed: Vec::new(),
                events,
            })
        }
        .boxed()
    }
}

/// What was counted, and when.
struct Measured {
    figures: QueueStats,
    workers: usize,
    slots: i64,
    at: DateTime,
}

impl Measured {
    async fn now(app: &AppState, queue: Queue, workers: &[Worker]) -> Result<Self, ApiError> {
        let at = app.store.now();
        let figures = app.queues.stats(queue, at).await?;
        let serving = || workers.iter().filter(|worker| worker.serves(queue, at));
        Ok(Self {
            figures,
            workers: serving().count(),
            slots: serving()
                .filter_map(|worker| worker.slots.get(&queue))
                .sum(),
            at,
        })
    }

    fn view(&self, control: &QueueControl) -> QueueView {
        let waited = |since| clock::until(since, self.at).as_secs_f64();
        let QueueStats {
            due,
            scheduled,
            running,
            oldest_due,
        } = self.figures;
        QueueView {
            name: control.queue.name(),
            paused: control.paused.is_some(),
            paused_at: control.paused.as_ref().map(|pause| pause.at.into()),
            paused_by: control.paused.as_ref().map(|pause| pause.by.clone()),
            due,
            scheduled,
            running,
            counted_up_to: COUNT_LIMIT,
            oldest_due_at: oldest_due.map(Timestamp::from),
            oldest_due_seconds: oldest_due.map(waited),
            workers: self.workers,
            slots: self.slots,
            measured_at: self.at.into(),
        }
    }
}
