//! Serves the API until a signal.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use dezky_api::{
    AppState, Config, SERVICE, metrics, seed, serve::serve, startup_router, state::SharedState,
};
use dezky_shared::platform::rlimit;
use dezky_shared::{
    platform::{backoff::retry, shutdown, telemetry},
    store::{Store, StoreError},
};
use tikv_jemallocator::Jemalloc;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// How long a connection may take to say what is asked for.
const HEADER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long requests that are under way may take once the process is to end.
const DRAIN: Duration = Duration::from_secs(20);
/// How long the stores may take to be told of the end.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How often MongoDB is asked for its time.
const LOOK_AT_THE_TIME: Duration = Duration::from_secs(30);

/// The C library's keeps most of what was freed after a peak.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let telemetry = telemetry::start(SERVICE, &config.trust_roots)?;
    rlimit::raise_limit();
    let shutdown = shutdown::on_signal()?;
    let listener = bind(config.listen, "API_LISTEN").await?;
    let metrics_listener = bind(config.metrics_listen, "API_METRICS_LISTEN").await?;
    let measured = metrics::start()?;

    tokio::spawn(dezky_shared::platform::metrics::run_upkeep(
        measured.clone(),
    ));
    tokio::spawn(async move { axum::serve(metrics_listener, metrics::router(measured)).await });

    let (routers, router) = watch::channel(startup_router(&config));
    let serving = serve(listener, router, HEADER_TIMEOUT, shutdown.clone());
    let serving = tokio::spawn(serving);
    tracing::info!(listen = %config.listen, "Serving");

    let started = shutdown.run_until_cancelled(start(&config, &shutdown));
    let app = started.await.transpose()?;
    if let Some(app) = &app {
        tokio::spawn(follow_the_time(app.store.clone()));
        routers.send_modify(|router| *router = dezky_api::router(app.clone()));
        tracing::info!("Ready");
    }

    shutdown.cancelled().await;
    if timeout(DRAIN, serving).await.is_err() {
        tracing::warn!("Some requests took too long to end");
    }
    if let Some(app) = app {
        app.background.close();
        let _ = timeout(LAST_WORDS, app.background.wait()).await;
        let _ = timeout(LAST_WORDS, app.store.close()).await;
    }
    tracing::info!("Stopped");
    telemetry.stop().await;
    Ok(())
}

async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("{variable}: cannot listen on {address}"))
}

/// Waits for MongoDB, and makes what has to be there.
async fn start(config: &Config, shutdown: &CancellationToken) -> anyhow::Result<SharedState> {
    let store = retry("MongoDB", async || Store::connect(&config.mongo).await).await;
    let app = AppState::new(config, &Arc::new(store), shutdown)?;
    retry("MongoDB", async || {
        app.ensure_indexes().await?;
        seed::seed(&app).await?;
        Ok::<_, StoreError>(())
    })
    .await;
    Ok(app)
}

async fn follow_the_time(store: Arc<Store>) {
    loop {
        tokio::time::sleep(LOOK_AT_THE_TIME).await;
        if let Err(error) = store.sync_clock().await {
            tracing::warn!(%error, "MongoDB did not tell its time");
        }
    }
}
