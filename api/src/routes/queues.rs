//! Queues: backlog, pause and resume. For operators.

use axum::Json;
use bson::DateTime;
use dezky_shared::{
    audit::{Action, Target},
    platform::{change_feed::DocumentChange, clock},
    queue::job::Queue,
    store::{
        queues::{COUNT_LIMIT, QueueControl, QueueStats},
        workers::Worker,
    },
};
use futures::future::try_join_all;
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
    state::{AppState, SharedState},
    timestamp::Timestamp,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
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
#[schema(as = Queue)]
struct QueueView {
    /// Name.
    name: Queue,
    /// Whether it is paused: workers claim no jobs of it.
    paused: bool,
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
    /// Number of due jobs, up to `countedUpTo`.
    due: u64,
    /// Number of jobs scheduled for later, up to `countedUpTo`.
    scheduled: u64,
    /// Number of running jobs.
    running: u64,
    /// Limit of the counts.
    counted_up_to: u64,
    /// Time at which the oldest due job became due.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_due_at: Option<Timestamp>,
    /// Age of the oldest due job in seconds, at `measuredAt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_due_seconds: Option<f64>,
    /// Number of live workers that serve it.
    workers: usize,
    /// Total concurrency of these workers.
    slots: i64,
    /// Time of the measurement.
    measured_at: Timestamp,
}

/// Lists queues
#[utoipa::path(get, path = "/queues", operation_id = "listQueues", tag = "operations", responses((status = 200, body = PageOf<QueueView>)))]
async fn list(get: Get<PlatformReader>) -> ListResult<QueueView> {
    let workers = get.app.db.workers.list().await?;
    let (app, workers) = (&get.app, &workers);
    let view = |queue| async move {
        let control = app.db.queues.find(queue).await?;
        let stats = CachedStats::now(app, queue, workers).await?;
        Ok::<_, ApiError>(stats.view(&control))
    };
    let views = try_join_all(Queue::ALL.map(view)).await?;
    Ok(Json(PageOf::single(views)))
}

/// Pauses a queue
///
/// Within about a second workers claim no more of its jobs. Running jobs continue; waiting jobs stay queued. A pause with
/// `until` ends by itself.
#[utoipa::path(
    post, path = "/queues/{name}/pause", operation_id = "pauseQueue", tag = "operations",
    params(("name" = Queue, Path)), request_body = Option<PauseRequest>,
    responses((status = 200, body = QueueView)),
)]
async fn pause(w: Write<Operator, NewPause, PathParam<Queue>>) -> Result<ApiResponse, ApiError> {
    change(&w, Some(&w.body)).await
}

/// Resumes a queue
#[utoipa::path(
    post, path = "/queues/{name}/resume", operation_id = "resumeQueue", tag = "operations",
    params(("name" = Queue, Path)),
    responses((status = 200, body = QueueView)),
)]
async fn resume(w: Write<Operator, EmptyBody, PathParam<Queue>>) -> Result<ApiResponse, ApiError> {
    change(&w, None).await
}

/// Pauses the queue, or resumes it without `pause`.
async fn change<B: Sync>(
    w: &Write<Operator, B, PathParam<Queue>>,
    pause: Option<&NewPause>,
) -> Result<ApiResponse, ApiError> {
    let (app, queue) = (&w.app, w.params.0);
    let workers = app.db.workers.list().await?;
    let change = QueueChange {
        before: app.db.queues.find(queue).await?,
        stats: CachedStats::now(app, queue, &workers).await?,
        pause,
    };
    w.run(&change).await
}

struct QueueChange<'a> {
    before: QueueControl,
    stats: CachedStats,
    pause: Option<&'a NewPause>,
}

impl Command for QueueChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let queue = self.before.queue;
        let now = runner.app.store.now();
        let before = self.before.paused.as_ref();
        let (pause, action) = match self.pause {
            Some(new) => (
                new.applied_to(before, now, runner.actor_id())?,
                Action::QueuePause,
            ),
            None => (None, Action::QueueResume),
        };
        let is_changed = pause.is_some() || self.pause.is_none() && before.is_some();
        let mut after = self.before.clone();
        let mut events = Vec::new();
        if is_changed {
            let queues = &runner.app.db.queues;
            after = queues.set_pause(session, queue, pause.as_ref()).await?;
            let target = Target::new("queue", queue.name(), queue.name());
            let event = runner.event(now, action, target, None);
            events.push(event.with_changes(&audited(before), &audited(pause.as_ref())));
        }
        let etag = ETag::of_revision(after.revision);
        let response = ApiResponse::new(StatusCode::OK, etag, &self.stats.view(&after));
        let output = CommandOutput::unchanged(response).with_events(events);
        Ok(if is_changed {
            output.with_changed(DocumentChange::Control)
        } else {
            output
        })
    }
}

/// Statistics of a queue at a point in time.
struct CachedStats {
    stats: QueueStats,
    workers: usize,
    slots: i64,
    at: DateTime,
}

impl CachedStats {
    async fn now(app: &AppState, queue: Queue, workers: &[Worker]) -> Result<Self, ApiError> {
        let at = app.store.now();
        let stats = app.db.queues.stats(queue, at).await?;
        let serving = || workers.iter().filter(|worker| worker.serves(queue, at));
        Ok(Self {
            stats,
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
        } = self.stats;
        QueueView {
            name: control.queue,
            paused: control.paused.is_some(),
            paused_at: control.paused.as_ref().map(|pause| pause.at.into()),
            paused_by: control.paused.as_ref().map(|pause| pause.by.clone()),
            paused_reason: control
                .paused
                .as_ref()
                .and_then(|pause| pause.reason.clone()),
            paused_until: control
                .paused
                .as_ref()
                .and_then(|pause| pause.until.map(Timestamp::from)),
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
