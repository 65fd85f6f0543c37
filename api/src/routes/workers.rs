//! The workers that live, as each says of itself.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use bson::DateTime;
use dezky_shared::store::workers::Worker;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Problem},
    extract::{Operator, PageOf, QueryParams},
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A worker process.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct WorkerView {
    /// Its id, new with each start.
    id: String,
    /// What it is called in logs, and in jobs that it runs.
    name: String,
    /// The machine it runs on.
    host: String,
    /// How many jobs of each queue it runs at a time.
    slots: BTreeMap<String, i64>,
    /// The kinds of jobs that it knows.
    kinds: Vec<String>,
    /// Whether it was heard of lately.
    alive: bool,
    /// Whether it takes no more jobs.
    stopping: bool,
    /// When it started.
    started_at: Timestamp,
    /// When it was last heard of.
    seen_at: Timestamp,
}

/// The workers, oldest first
///
/// Those that ended as they should are not there; those that vanished are for a quarter of an hour.
#[utoipa::path(
    get, path = "/workers", operation_id = "listWorkers", tag = "operations",
    responses((status = 200, body = PageOf<WorkerView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<WorkerView>>, ApiError> {
    let now = app.store.now();
    let workers = app.workers.list().await?;
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
