//! Registered worker processes.

use std::collections::BTreeMap;

use axum::Json;
use bson::DateTime;
use dezky_shared::store::workers::Worker;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    extract::{PageOf, PlatformReader},
    read::{Get, ListResult},
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A worker process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Worker)]
struct WorkerView {
    /// Id, new with every start.
    id: String,
    /// Name in logs and jobs.
    name: String,
    /// Host name.
    host: String,
    /// Concurrency per queue.
    slots: BTreeMap<String, i64>,
    /// Job kinds it handles.
    kinds: Vec<String>,
    /// Whether its heartbeat is recent.
    alive: bool,
    /// Whether it is shutting down and claims no more jobs.
    stopping: bool,
    /// Start time.
    started_at: Timestamp,
    /// Time of the last heartbeat.
    seen_at: Timestamp,
}

/// Lists workers, oldest first
///
/// Workers that shut down are not listed; lost workers stay listed for 15 minutes.
#[utoipa::path(get, path = "/workers", operation_id = "listWorkers", tag = "operations", responses((status = 200, body = PageOf<WorkerView>)))]
async fn list(get: Get<PlatformReader>) -> ListResult<WorkerView> {
    let now = get.app.store.now();
    let workers = get.app.db.workers.list().await?;
    let views = workers.into_iter().map(|worker| view(worker, now));
    Ok(Json(PageOf::single(views.collect())))
}

fn view(worker: Worker, now: DateTime) -> WorkerView {
    WorkerView {
        alive: worker.is_alive(now),
        id: worker.id.to_string(),
        name: worker.name,
        host: worker.host,
        slots: worker
            .slots
            .into_iter()
            .map(|(queue, slots)| (queue.to_string(), slots))
            .collect(),
        kinds: worker.kinds,
        stopping: worker.stopping,
        started_at: worker.started_at.into(),
        seen_at: worker.seen_at.into(),
    }
}
