//! The port on which a worker is looked at: whether it lives, whether it can work, and what it has measured. It takes
//! no work here.

use std::sync::{Arc, OnceLock};

use axum::{Json, Router, extract::State, routing::get};
use dezky_shared::platform::{metrics::PrometheusHandle, readiness::Readiness};
use http::{StatusCode, header};
use serde::Serialize;

use crate::{context::Context, metrics::SERVICE};

/// What a worker works with, from when MongoDB is there.
pub type Started = Arc<OnceLock<Arc<Context>>>;

/// Shows `measured`, and how the stores stand of a worker that has `started`.
pub fn router(measured: PrometheusHandle, started: Started) -> Router {
    let metrics = async move || {
        let text = "text/plain; version=0.0.4; charset=utf-8";
        ([(header::CONTENT_TYPE, text)], measured.render())
    };
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(ready))
        .with_state(started)
        .route("/metrics", get(metrics))
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

/// As the api shows it.
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
    let seen = match started.get() {
        Some(context) => Readiness::check(&context.store, &context.ready).await,
        None => Readiness::starting(),
    };
    let code = if seen.is_ready() {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let view = ReadinessView {
        status: seen.status(),
        mongodb: seen.mongodb.into(),
        redis: seen.redis.into(),
    };
    (code, Json(view))
}
