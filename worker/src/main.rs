//! Reads the configuration, connects, and runs jobs until a signal; then drains.

use std::sync::Arc;

use anyhow::Context as _;
use dezky_shared::{reconnect::until_connected, shutdown, store::Store, telemetry};
use dezky_worker::{
    config::Config,
    context::{Clients, Context},
    engine, jobs,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::from_env().context("the worker's configuration")?;
    telemetry::start()?;
    let shutdown = shutdown::on_signal()?;

    let connecting = until_connected("MongoDB", async || Store::connect(&config.mongodb).await);
    let Some(store) = shutdown.run_until_cancelled(connecting).await else {
        return Ok(());
    };
    let store = Arc::new(store);
    let clients = Clients::new(&config.clients, &config.trust_roots)?;
    let context = Arc::new(Context::new(store.clone(), &config.redis, clients)?);
    let preparing = until_connected("MongoDB", async || context.ensure_indexes().await);
    if shutdown.run_until_cancelled(preparing).await.is_none() {
        return Ok(());
    }

    tracing::info!(worker = config.engine.worker, "Running jobs");
    let ended = engine::run(context, jobs::registry(), config.engine, shutdown).await;
    store.close().await;
    tracing::info!("Stopped");
    ended
}
