//! Whether the process lives, and whether it can do its work.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::{Json, Router, extract::State, routing::get};
use bson::{Bson, doc};
use dezky_shared::store::Store;
use http::StatusCode;
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Code},
    extract::QueryParams,
    state::App,
};

/// How long a store may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest that a transaction of somebody who died may hold its locks.
const TRANSACTION_LIFETIME: i64 = 5;

pub(super) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(alive))
        .routes(routes!(ready))
}

/// What is answered while the service starts: it waits for MongoDB.
pub(crate) fn starting() -> Router {
    let unready = Readiness {
        status: "unready",
        mongodb: Check::failed("MongoDB does not answer, or the indexes are not made yet"),
        redis: Check::failed("Redis is not looked at before MongoDB is there"),
    };
    let unready = async move || (StatusCode::SERVICE_UNAVAILABLE, Json(unready));
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(unready))
        .fallback(async || ApiError::new(Code::Starting))
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
struct Check {
    /// Whether it is as it should be.
    ok: bool,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl Check {
    fn failed(detail: &str) -> Self {
        Self {
            ok: false,
            detail: Some(detail.to_owned()),
        }
    }
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
        service: "dezky-platform-api",
        version: env!("CARGO_PKG_VERSION"),
    })
}

/// The service can do its work
#[utoipa::path(
    get, path = "/readyz", operation_id = "getReadiness", tag = "health", security(()),
    responses((status = 200, body = Readiness), (status = 503, body = Readiness)),
)]
async fn ready(_: QueryParams<()>, State(app): State<App>) -> (StatusCode, Json<Readiness>) {
    let redis = async {
        let answered = timeout(ANSWER_TIMEOUT, app.ready.ping()).await;
        match answered {
            Ok(Ok(())) => Ok(()),
            _ => bail!("Redis does not answer; jobs start with some delay"),
        }
    };
    let mongodb = async {
        match timeout(ANSWER_TIMEOUT, look_at_mongodb(&app.store)).await {
            Ok(outcome) => outcome,
            Err(_) => bail!("MongoDB does not answer"),
        }
    };
    let (mongodb, redis): (anyhow::Result<()>, anyhow::Result<()>) = tokio::join!(mongodb, redis);
    let (code, status) = match (&mongodb, &redis) {
        (Ok(()), Ok(())) => (StatusCode::OK, "ready"),
        (Ok(()), Err(_)) => (StatusCode::OK, "degraded"),
        (Err(_), _) => (StatusCode::SERVICE_UNAVAILABLE, "unready"),
    };
    let readiness = Readiness {
        status,
        mongodb: mongodb.into(),
        redis: redis.into(),
    };
    (code, Json(readiness))
}

async fn look_at_mongodb(store: &Store) -> anyhow::Result<()> {
    const LIMIT: &str = "transactionLifetimeLimitSeconds";
    let admin = store.database().client().database("admin");
    let hello = admin
        .run_command(doc! { "hello": 1 })
        .await
        .context("MongoDB does not answer")?;
    ensure!(
        hello.contains_key("setName"),
        "MongoDB is not a replica set, which transactions need"
    );
    let parameters = admin
        .run_command(doc! { "getParameter": 1, LIMIT: 1 })
        .await
        .context("MongoDB does not show its parameters: our user needs the role clusterMonitor")?;
    let limit = match parameters.get(LIMIT) {
        Some(Bson::Int32(seconds)) => i64::from(*seconds),
        Some(Bson::Int64(seconds)) => *seconds,
        _ => bail!("MongoDB does not say what {LIMIT} is"),
    };
    ensure!(
        limit <= TRANSACTION_LIFETIME,
        "MongoDB's {LIMIT} is {limit}; it must be at most {TRANSACTION_LIFETIME}"
    );
    Ok(())
}
