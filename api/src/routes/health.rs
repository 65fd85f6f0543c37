//! Liveness and readiness.

use std::sync::{Arc, OnceLock};

use axum::{Json, Router, extract::State, routing::get};
use dezky_shared::platform::metrics::PrometheusHandle;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    metrics,
    readiness::{Readiness, identity},
    state::SharedState,
};

/// The application, set once it has started.
pub type Started = Arc<OnceLock<SharedState>>;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// Routes while the service starts and waits for MongoDB.
pub(crate) fn startup_router() -> Router {
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

/// Status of a live process.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum LivenessStatus {
    /// The process responds.
    Ok,
}

/// Liveness.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Liveness)]
struct Alive {
    /// Always `ok`.
    status: LivenessStatus,
    /// Service name.
    service: &'static str,
    /// Service version.
    version: &'static str,
}

/// Returns liveness
#[utoipa::path(get, path = "/healthz", operation_id = "getHealth", tag = "health", security(()), responses((status = 200, body = Alive)))]
async fn alive() -> Json<Alive> {
    Json(Alive {
        status: LivenessStatus::Ok,
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
    let check = async move |()| Readiness::check(&store, &ready, identity).await;
    app.readiness.load(|()| (), check).await
}

fn respond(readiness: Readiness) -> (StatusCode, Json<Readiness>) {
    let code = if readiness.can_serve() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (code, Json(readiness))
}
