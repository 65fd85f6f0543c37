//! Whether the process lives, and whether it can do its work.

use axum::{Json, Router, extract::State, routing::get};
use dezky_shared::platform::readiness;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    extract::QueryParams,
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// What is answered while the service starts: it waits for MongoDB.
pub(crate) fn starting() -> Router {
    let unready = async || answer(readiness::Readiness::starting());
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(unready))
        .fallback(async || ApiError::new(ProblemCode::Starting))
}

/// That the process lives.
#[derive(Debug, Serialize, ToSchema)]
struct Alive {
    /// `ok`.
    status: &'static str,
    /// The service's name.
    service: &'static str,
    /// Its version.
    version: &'static str,
}

/// Whether the service can do its work.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct Readiness {
    /// `ready`; `degraded`: it works, with more delay than usual; `unready`.
    status: &'static str,
    /// The database.
    mongodb: Check,
    /// The hints.
    redis: Check,
}

/// How one part stands.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Check {
    /// Whether it is as it should be.
    ok: bool,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<anyhow::Result<()>> for Check {
    fn from(outcome: anyhow::Result<()>) -> Self {
        Self {
            ok: outcome.is_ok(),
            detail: outcome.err().map(|error| error.to_string()),
        }
    }
}

/// The process lives
#[utoipa::path(get, path = "/healthz", operation_id = "getHealth", tag = "health", security(()), responses((status = 200, body = Alive)))]
async fn alive(_: QueryParams<()>) -> Json<Alive> {
    Json(Alive {
        status: "ok",
        service: crate::SERVICE,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The service can do its work
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)),
)]
async fn ready(
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> (StatusCode, Json<Readiness>) {
    answer(readiness::Readiness::check(&app.store, &app.ready).await)
}

fn answer(seen: readiness::Readiness) -> (StatusCode, Json<Readiness>) {
    let code = if seen.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let readiness = Readiness {
        status: seen.status(),
        mongodb: seen.mongodb.into(),
        redis: seen.redis.into(),
    };
    (code, Json(readiness))
}
