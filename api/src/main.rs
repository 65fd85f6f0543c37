//! Serves the API until SIGINT or SIGTERM.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use dezky_api::{
    AppState, Config, SERVICE, metrics, monitoring_router, seed, serve::serve, startup_router,
    state::SharedState,
};
use dezky_shared::platform::rlimit;
use dezky_shared::{
    platform::{backoff::retry, shutdown, telemetry},
    store::{Store, StoreError},
};
use tikv_jemallocator::Jemalloc;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// Timeout of requests in flight at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of sending pending hints, and of closing the connections to MongoDB.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Interval of the clock synchronization with MongoDB.
const CLOCK_SYNC_INTERVAL: Duration = Duration::from_secs(30);

/// jemalloc returns memory to the system after a peak; the allocator of the C library keeps most of it.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::from_env()?;
    let telemetry = telemetry::start(SERVICE, &config.trust_roots)?;
    let open_files = rlimit::raise_limit();
    let shutdown = shutdown::on_signal()?;
    let listener = bind(config.listen, "API_LISTEN").await?;
    let metrics_listener = bind(config.metrics_listen, "API_METRICS_LISTEN").await?;
    let metrics_handle = metrics::start()?;

    tokio::spawn(dezky_shared::platform::metrics::run_upkeep(
        metrics_handle.clone(),
    ));
    let started = Arc::new(OnceLock::new());
    let monitoring = monitoring_router(metrics_handle, started.clone());
    tokio::spawn(async move { axum::serve(metrics_listener, monitoring).await });

    let (router_sender, router) = watch::channel(startup_router(&config));
    let server = config.server.clone().within(open_files);
    let serving = serve(listener, router, server, shutdown.clone());
    let serving = tokio::spawn(serving);
    tracing::info!(listen = %config.listen, "Serving");

    let app = shutdown.run_until_cancelled(start(&config, &shutdown));
    let app = app.await.transpose()?;
    if let Some(app) = &app {
        let _ = started.set(app.clone());
        tokio::spawn(clock_sync_loop(app.store.clone()));
        router_sender.send_modify(|router| *router = dezky_api::router(app.clone()));
        tracing::info!("Ready");
    }

    shutdown.cancelled().await;
    if timeout(DRAIN_TIMEOUT, serving).await.is_err() {
        tracing::warn!("Requests were still in flight after the drain timeout");
    }
    if let Some(app) = app {
        app.hints.tasks.close();
        let _ = timeout(CLOSE_TIMEOUT, app.hints.tasks.wait()).await;
        let _ = timeout(CLOSE_TIMEOUT, app.store.close()).await;
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

/// Waits for MongoDB, creates the indexes and seeds the database.
async fn start(config: &Config, shutdown: &CancellationToken) -> anyhow::Result<SharedState> {
    let store = retry("MongoDB", async || Store::connect(&config.mongo).await).await;
    let app = AppState::new(config, &Arc::new(store), shutdown)?;
    retry("MongoDB", async || {
        app.db.ensure_indexes().await?;
        // The api is upgraded after the workers, so that none is left that uses them.
        app.db.jobs.drop_former_indexes().await?;
        seed::seed(&app).await?;
        Ok::<_, StoreError>(())
    })
    .await;
    Ok(app)
}

async fn clock_sync_loop(store: Arc<Store>) {
    loop {
        tokio::time::sleep(CLOCK_SYNC_INTERVAL).await;
        if let Err(error) = store.sync_clock().await {
            tracing::warn!(%error, "Clock synchronization with MongoDB failed");
        }
    }
}
