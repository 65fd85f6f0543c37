//! Infrastructure status: dependencies as the leading worker last checked them.

use axum::Json;
use bson::DateTime;
use dezky_shared::{
    dependency::{CheckState, Dependency, DependencyStatus},
    platform::clock,
    queue::job::Queue,
    readiness::Readiness,
    store::workers::Worker,
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::SubjectCheck,
    error::{ApiError, ProblemCode},
    extract::PlatformReader,
    read::Get,
    readiness::Check,
    state::SharedState,
    timestamp::Timestamp,
};

/// Age in seconds at which a check is stale. Workers check every 15 s.
const STALE_AFTER: f64 = 60.0;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(show))
}

/// Infrastructure status.
#[derive(Debug, Serialize, ToSchema)]
struct Infrastructure {
    /// MongoDB and Redis, as the leading worker sees them.
    stores: Vec<ProbeView>,
    /// Reachability of the upstreams. `/upstreams` has the state of their credentials.
    upstreams: Vec<ProbeView>,
    /// DNS resolvers.
    resolvers: Vec<ProbeView>,
    /// Queues.
    queues: Vec<QueueWorkers>,
    /// MongoDB and Redis, as this process sees them now.
    api: LocalChecks,
    /// Token issuers, as this process sees them.
    issuers: Vec<IssuerView>,
}

/// A token issuer.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TokenIssuer)]
struct IssuerView {
    /// URL, as in the `iss` claim.
    #[schema(example = "https://auth.example.com/application/o/dezky-portal/")]
    name: String,
    /// Subject of its tokens: `uuid` (as required), `other` (its tokens are refused) or `unchecked` (no token yet).
    subject: SubjectCheck,
    /// Suggested action.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
}

/// Result of the last check of a dependency.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DependencyState)]
enum ProbeState {
    /// Healthy.
    Ok,
    /// Unhealthy.
    Failed,
    /// The integration is disabled.
    Disabled,
    /// Never checked.
    Unknown,
}

impl From<CheckState> for ProbeState {
    fn from(state: CheckState) -> Self {
        match state {
            CheckState::Ok => Self::Ok,
            CheckState::Failed => Self::Failed,
            CheckState::Disabled => Self::Disabled,
        }
    }
}

/// Last check of a dependency.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DependencyCheck)]
struct ProbeView {
    /// Name of the dependency.
    #[schema(example = "stalwart")]
    name: String,
    /// `ok`, `failed`, `disabled` (integration switched off) or `unknown` (never checked).
    state: ProbeState,
    /// Time of the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked_at: Option<Timestamp>,
    /// Age of the check in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    age_seconds: Option<f64>,
    /// Whether the check is too old: no worker leads, or the leader cannot write.
    stale: bool,
    /// Response time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 0)]
    latency_ms: Option<i64>,
    /// Time of the last successful check.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_success_at: Option<Timestamp>,
    /// Error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Failed setup checks of an upstream, each with its remedy. Workers check every hour.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    problems: Vec<String>,
}

/// Workers of a queue.
#[derive(Debug, Serialize, ToSchema)]
struct QueueWorkers {
    /// Queue.
    name: Queue,
    /// Number of live workers that serve the queue.
    workers: usize,
}

/// MongoDB and Redis, as this process sees them.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LocalChecks)]
struct LocalChecks {
    /// Database.
    mongodb: Check,
    /// Redis, which carries hints between processes.
    redis: Check,
}

/// Returns the infrastructure status
///
/// The leading worker checks every 15 s; the response has the result and age of each check.
#[utoipa::path(get, path = "/infrastructure", operation_id = "getInfrastructure", tag = "operations", responses((status = 200, body = Infrastructure)))]
async fn show(get: Get<PlatformReader>) -> Result<Json<Infrastructure>, ApiError> {
    let local = Readiness::check(&get.app.store, &get.app.hints.ready).await;
    let statuses = get.app.db.dependencies.list().await?;
    let workers = get.app.db.workers.list().await?;
    let now = get.app.store.now();
    let view = |dependency: &Dependency| {
        let id = dependency.to_string();
        match statuses.iter().find(|status| status.id == id) {
            Some(status) => ProbeView::new(status, now),
            None => ProbeView::unknown(dependency.name()),
        }
    };
    // Resolvers are configured in the workers only.
    let resolvers = statuses
        .iter()
        .filter(|status| status.kind == "resolver")
        .map(|status| ProbeView::new(status, now));
    Ok(Json(Infrastructure {
        stores: vec![view(&Dependency::Mongodb), view(&Dependency::Redis)],
        upstreams: Upstream::ALL
            .map(|upstream| view(&Dependency::Upstream(upstream)))
            .into(),
        resolvers: resolvers.collect(),
        queues: Queue::ALL
            .map(|queue| QueueWorkers::of(queue, &workers, now))
            .into(),
        api: LocalChecks {
            mongodb: local.mongodb.into(),
            redis: local.redis.into(),
        },
        issuers: get
            .app
            .access
            .tokens
            .subject_checks()
            .map(|(name, check)| IssuerView {
                name: name.to_owned(),
                subject: check,
                error: (check == SubjectCheck::Other)
                    .then(|| ProblemCode::TokenWrongSubject.detail()),
            })
            .collect(),
    }))
}

impl ProbeView {
    fn new(status: &DependencyStatus, now: DateTime) -> Self {
        let age = clock::until(status.checked_at, now).as_secs_f64();
        Self {
            name: status.name.clone(),
            state: status.outcome.into(),
            checked_at: Some(status.checked_at.into()),
            age_seconds: Some(age),
            stale: age > STALE_AFTER,
            latency_ms: status.latency_ms,
            last_success_at: status.last_success_at.map(Timestamp::from),
            error: status.error.clone(),
            problems: status.problems.clone(),
        }
    }

    fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: ProbeState::Unknown,
            checked_at: None,
            age_seconds: None,
            stale: false,
            latency_ms: None,
            last_success_at: None,
            error: None,
            problems: Vec::new(),
        }
    }
}

impl QueueWorkers {
    fn of(queue: Queue, workers: &[Worker], now: DateTime) -> Self {
        let serving = workers.iter().filter(|worker| worker.serves(queue, now));
        Self {
            name: queue,
            workers: serving.count(),
        }
    }
}
