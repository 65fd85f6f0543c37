//! Liveness and readiness.

use std::sync::{Arc, OnceLock};

use axum::{Json, Router, extract::State, routing::get};
use dezky_shared::{
    platform::{
        coalescer::{Coalescer, Limits},
        metrics::PrometheusHandle,
    },
    readiness,
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    auth::{SubjectCheck, TokenVerifier},
    error::{ApiError, ProblemCode},
    metrics,
    state::SharedState,
};

/// Readiness checks. Concurrent requests share one, so that no number of them loads the stores.
pub(crate) type ReadinessChecks = Coalescer<(), Readiness>;

/// The application, set once it has started.
pub type Started = Arc<OnceLock<SharedState>>;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// Routes while the service starts and waits for MongoDB.
pub(crate) fn starting() -> Router {
    let unready = async || respond(Readiness::starting());
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(unready))
        .fallback(async || ApiError::new(ProblemCode::Starting))
}

/// Health and metrics, for a port of their own: they respond also while the API has too many connections.
pub fn monitoring_router(metrics: PrometheusHandle, started: Started) -> Router {
    let ready = async move || match started.get() {
        Some(app) => respond(checked(app).await),
        None => respond(Readiness::starting()),
    };
    metrics::router(metrics)
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
}

/// Coalesces the checks of a process.
pub(crate) fn readiness_checks() -> ReadinessChecks {
    Coalescer::new(Limits {
        in_flight: 1,
        slot_timeout: None,
        pause: |_, took| took,
    })
}

/// Liveness.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// `ok`.
    status: &'static str,
    /// Service name.
    service: &'static str,
    /// Service version.
    version: &'static str,
}

/// Readiness.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Readiness {
    /// `ready`, `degraded` (works with more delay) or `unready`.
    status: &'static str,
    /// Database.
    mongodb: Check,
    /// Redis, which carries hints between processes.
    redis: Check,
    /// The identity provider. Only if its tokens are refused: the service is then `degraded`.
    #[serde(skip_serializing_if = "Option::is_none")]
    identity: Option<Check>,
}

impl Readiness {
    fn starting() -> Self {
        Self::new(readiness::Readiness::starting(), None)
    }

    fn new(stores: readiness::Readiness, identity: Option<Check>) -> Self {
        Self {
            status: match stores.status() {
                "ready" if identity.is_some() => "degraded",
                status => status,
            },
            mongodb: stores.mongodb.into(),
            redis: stores.redis.into(),
            identity,
        }
    }
}

/// Result of a check.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Check {
    /// Whether the check passed.
    ok: bool,
    /// Error.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<anyhow::Result<()>> for Check {
    fn from(result: anyhow::Result<()>) -> Self {
        Self {
            ok: result.is_ok(),
            detail: result.err().map(|error| error.to_string()),
        }
    }
}

/// Returns liveness
#[utoipa::path(get, path = "/healthz", operation_id = "getHealth", tag = "health", security(()), responses((status = 200, body = Alive)))]
async fn alive() -> Json<Alive> {
    Json(Alive {
        status: "ok",
        service: crate::SERVICE,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Returns readiness
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)),
)]
async fn ready(State(app): State<SharedState>) -> (StatusCode, Json<Readiness>) {
    respond(checked(&app).await)
}

async fn checked(app: &SharedState) -> Readiness {
    let (store, ready) = (app.store.clone(), app.hints.ready.clone());
    let identity = identity(&app.access.tokens);
    let check = async move |()| {
        let stores = readiness::Readiness::check(&store, &ready).await;
        Readiness::new(stores, identity)
    };
    app.readiness.load(|()| (), check).await
}

/// The issuers whose tokens are refused, if any.
fn identity(tokens: &TokenVerifier) -> Option<Check> {
    let refused: Vec<&str> = tokens
        .subject_checks()
        .filter_map(|(issuer, check)| (check == SubjectCheck::Other).then_some(issuer))
        .collect();
    let detail = || {
        let what = ProblemCode::TokenWrongSubject.detail();
        format!("Tokens of {} are refused. {what}", refused.join(", "))
    };
    (!refused.is_empty()).then(|| Check {
        ok: false,
        detail: Some(detail()),
    })
}

fn respond(readiness: Readiness) -> (StatusCode, Json<Readiness>) {
    let code = if readiness.mongodb.ok {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(readiness))
}
