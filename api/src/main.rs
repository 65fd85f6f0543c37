//! Serves the API until SIGINT or SIGTERM.

use std::{
    net::SocketAddr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context as _;
use dezky_api::{
    AppState, Config, SERVICE, metrics, monitoring_router, seed,
    serve::{listen, serve},
    startup_router,
    state::SharedState,
};
use dezky_shared::platform::rlimit;
use dezky_shared::{
    platform::{backoff::retry, shutdown, telemetry},
    store::{self, Store, StoreError},
};
use tikv_jemallocator::Jemalloc;
use tokio::{net::TcpListener, sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;

/// Timeout of requests in flight at shutdown.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);
/// Timeout of sending pending hints, and of closing the connections to MongoDB.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Tenants that are indexed for the search at a time.
const WORDS_BATCH: i64 = 100;
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
    let listener =
        listen(config.listen).with_context(|| cannot_listen("API_LISTEN", config.listen))?;
    let metrics_listener = TcpListener::bind(config.metrics_listen).await;
    let metrics_listener = metrics_listener
        .with_context(|| cannot_listen("API_METRICS_LISTEN", config.metrics_listen))?;
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
        tokio::spawn(index_words(app.clone()));
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

fn cannot_listen(variable: &str, address: SocketAddr) -> String {
    format!("{variable}: cannot listen on {address}")
}

/// Waits for MongoDB, creates the indexes and seeds the database.
async fn start(config: &Config, shutdown: &CancellationToken) -> anyhow::Result<SharedState> {
    let store = retry("MongoDB", async || Store::connect(&config.mongo).await).await;
    let store = Arc::new(store);
    let app = AppState::new(config, &store, shutdown)?;
    retry("MongoDB", async || {
        store::ensure_indexes(&store).await?;
        // The api is upgraded after the workers, so that none is left that uses them.
        app.db.jobs.drop_former_indexes().await?;
        seed::seed(&app).await?;
        Ok::<_, StoreError>(())
    })
    .await;
    Ok(app)
}

/// Makes tenants searchable that a build before the search stored.
async fn index_words(app: SharedState) {
    let mut after = None;
    loop {
        match app.db.tenants.add_missing_words(after, WORDS_BATCH).await {
            Ok(None) => return,
            Ok(last) => after = last,
            Err(error) => {
                tracing::warn!(%error, "Could not index tenants for the search; trying again");
                tokio::time::sleep(CLOCK_SYNC_INTERVAL).await;
            }
        }
    }
}

async fn clock_sync_loop(store: Arc<Store>) {
    loop {
        tokio::time::sleep(CLOCK_SYNC_INTERVAL).await;
        if let Err(error) = store.sync_clock().await {
            tracing::warn!(%error, "Clock synchronization with MongoDB failed");
        }
    }
}
