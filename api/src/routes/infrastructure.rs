//! How what the service stands on is, as the leading worker last saw it.

use axum::{Json, extract::State};
use bson::DateTime;
use dezky_shared::{
    dependency::{CheckState, Dependency, DependencyStatus},
    platform::{clock, readiness::Readiness},
    queue::job::Queue,
    store::workers::Worker,
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Problem},
    extract::{Operator, QueryParams},
    routes::health::Check,
    state::SharedState,
    timestamp::Timestamp,
};

/// After how many seconds a look is too old to be believed: workers look every 15.
const STALE_AFTER: f64 = 60.0;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// What the service stands on.
#[derive(Debug, Serialize, ToSchema)]
struct Infrastructure {
    /// MongoDB and Redis, as the leading worker saw them.
    stores: Vec<ProbeView>,
    /// The upstreams, as it saw them: whether they answer, and not whether they take our credentials, which
    /// `/upstreams` tells.
    upstreams: Vec<ProbeView>,
    /// The resolvers that it asks about domains.
    resolvers: Vec<ProbeView>,
    /// The queues.
    queues: Vec<QueueWorkers>,
    /// The stores, as the process that answers sees them at this moment.
    api: SeenHere,
}

/// The last look at something.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ProbeView {
    /// What was looked at.
    #[schema(example = "stalwart")]
    name: String,
    /// `ok`, `failed`, `disabled` (its integration is switched off), `unknown` (nobody has looked yet).
    #[schema(example = "ok")]
    state: &'static str,
    /// When it was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_at: Option<Timestamp>,
    /// The same in seconds before now.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    age_seconds: Option<f64>,
    /// Whether that is so long ago that no worker leads any more, or it cannot write.
    stale: bool,
    /// How long the answer took.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    latency_ms: Option<i64>,
    /// When it last answered, as far as is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<Timestamp>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Who takes the jobs of a queue.
#[derive(Debug, Serialize, ToSchema)]
struct QueueWorkers {
    /// The queue.
    #[schema(example = "provisioning")]
    name: &'static str,
    /// How many workers live and take its jobs.
    workers: usize,
}

/// The stores, as one process sees them.
#[derive(Debug, Serialize, ToSchema)]
struct SeenHere {
    /// The database.
    mongodb: Check,
    /// The hints.
    redis: Check,
}

/// What the service stands on
///
/// The leading worker looks every 15 s; what is shown is what it saw, and how long ago. What nobody has looked at is
/// `unknown`.
#[utoipa::path(
    get, path = "/infrastructure", operation_id = "getInfrastructure", tag = "operations",
    responses((status = 200, body = Infrastructure), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<Infrastructure>, ApiError> {
    let here = Readiness::check(&app.store, &app.ready).await;
    let probes = app.probes.list().await?;
    let workers = app.workers.list().await?;
    let now = app.store.now();
    let look = |subject: &Dependency| {
        let id = subject.to_string();
        match probes.iter().find(|probe| probe.id == id) {
            Some(probe) => ProbeView::new(probe, now),
            None => ProbeView::unknown(subject.name()),
        }
    };
    // Which resolvers there are, only workers know.
    let resolvers = probes.iter().filter(|probe| probe.kind == "resolver");
    Ok(Json(Infrastructure {
        stores: [Dependency::Mongodb, Dependency::Redis]
            .iter()
            .map(look)
            .collect(),
        upstreams: Upstream::ALL
            .map(|upstream| look(&Dependency::Upstream(upstream)))
            .into(),
        resolvers: resolvers.map(|probe| ProbeView::new(probe, now)).collect(),
        queues: Queue::ALL
            .map(|queue| QueueWorkers::of(queue, &workers, now))
            .into(),
        api: SeenHere {
            mongodb: here.mongodb.into(),
            redis: here.redis.into(),
        },
    }))
}

impl ProbeView {
    fn new(probe: &DependencyStatus, now: DateTime) -> Self {
        let age = clock::until(probe.checked_at, now).as_secs_f64();
        Self {
            name: probe.name.clone(),
            state: match probe.outcome {
                CheckState::Ok => "ok",
                CheckState::Failed => "failed",
                CheckState::Disabled => "disabled",
            },
            checked_at: Some(probe.checked_at.into()),
            age_seconds: Some(age),
            stale: age > STALE_AFTER,
            latency_ms: probe.latency_ms,
            last_success_at: probe.last_success_at.map(Timestamp::from),
            error: probe.error.clone(),
        }
    }

    fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: "unknown",
            checked_at: None,
            age_seconds: None,
            stale: false,
            latency_ms: None,
            last_success_at: None,
            error: None,
        }
    }
}

impl QueueWorkers {
    fn of(queue: Queue, workers: &[Worker], now: DateTime) -> Self {
        let serving = workers.iter().filter(|worker| worker.serves(queue, now));
        Self {
            name: queue.name(),
            workers: serving.count(),
        }
    }
}
