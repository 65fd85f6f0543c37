//! Health server: liveness, readiness and metrics. Jobs are not accepted here.

use std::sync::{Arc, OnceLock};

use axum::{Json, Router, extract::State, routing::get};
use dezky_shared::{platform::metrics::PrometheusHandle, readiness::Readiness};
use http::{StatusCode, header};
use serde::Serialize;

use crate::{context::Context, metrics::SERVICE};

/// The worker's context, set once MongoDB is connected.
pub type Started = Arc<OnceLock<Arc<Context>>>;

/// Serves the metrics, and the readiness of the stores once the worker has `started`.
pub fn router(metrics: PrometheusHandle, started: Started) -> Router {
    let render = async move || {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, text)], metrics.render())
    };
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(started)
        .route("/metrics", get(render))
}

#[derive(Serialize)]
struct Alive {
    status: &'static str,
    service: &'static str,
    version: &'static str,
}

async fn alive() -> Json<Alive> {
    Json(Alive {
        status: "ok",
        service: SERVICE,
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// Readiness, in the format of the API.
#[derive(Serialize)]
struct ReadinessView {
    status: &'static str,
    mongodb: Check,
    redis: Check,
}

#[derive(Serialize)]
struct Check {
    ok: bool,
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

async fn ready(State(started): State<Started>) -> (StatusCode, Json<ReadinessView>) {
    let readiness = match started.get() {
        Some(context) => Readiness::check(&context.store, &context.ready).await,
        None => Readiness::starting(),
    };
    let code = if readiness.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let view = ReadinessView {
        status: readiness.status(),
        mongodb: readiness.mongodb.into(),
        redis: readiness.redis.into(),
    };
    (code, Json(view))
}
