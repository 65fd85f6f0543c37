//! Liveness and readiness.

use axum::{Json, Router, extract::State, routing::get};
use dezky_shared::readiness;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// Routes while the service starts and waits for MongoDB.
pub(crate) fn starting() -> Router {
    let unready = async || respond(readiness::Readiness::starting());
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(unready))
        .fallback(async || ApiError::new(ProblemCode::Starting))
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
struct Readiness {
    /// `ready`, `degraded` (works with more delay) or `unready`.
    status: &'static str,
    /// Database.
    mongodb: Check,
    /// Redis, which carries hints between processes.
    redis: Check,
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
    respond(readiness::Readiness::check(&app.store, &app.hints.ready).await)
}

fn respond(checked: readiness::Readiness) -> (StatusCode, Json<Readiness>) {
    let code = if checked.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let readiness = Readiness {
        status: checked.status(),
        mongodb: checked.mongodb.into(),
        redis: checked.redis.into(),
    };
    (code, Json(readiness))
}
