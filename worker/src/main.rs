//! The worker process: reads the configuration, connects, runs jobs until a signal, and drains.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    sync::Arc,
};

use anyhow::Context as _;
use dezky_shared::{
    platform::{backoff::retry, metrics::run_upkeep, shutdown, telemetry},
    store::{self, Store},
};
use dezky_upstreams::clients::stalwart::Stalwart;
use dezky_worker::{
    config::Config,
    context::{Clients, Context},
    health_server::{self, Started},
    jobs,
    metrics::{self, SERVICE},
    setup,
};
use tikv_jemallocator::Jemalloc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// jemalloc: the C library's allocator retains most memory after a peak.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Without arguments, the process runs jobs.
const USAGE: &str = "usage: dezky-worker [check | stalwart-key]

  check         check the stores, the upstreams and the resolvers, and print what is missing
  stalwart-key  print the JMAP request that creates Stalwart's API key";

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => serve().await.map(|()| ExitCode::SUCCESS),
        ["check"] => check().await,
        ["stalwart-key"] => {
            writeln!(io::stdout(), "{}", Stalwart::key_request())?;
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            writeln!(io::stderr(), "{USAGE}")?;
            Ok(ExitCode::from(2))
        }
    }
}

/// Prints the setup checks. The exit status says whether one failed.
async fn check() -> anyhow::Result<ExitCode> {
    let config = Config::from_env().context("the worker's configuration")?;
    let clients = Clients::new(&config.clients, &config.trust_roots)?;
    let none_failed = setup::check_all(&config, &clients, &mut io::stdout()).await?;
    Ok(ExitCode::from(u8::from(!none_failed)))
}

async fn serve() -> anyhow::Result<()> {
    let config = Config::from_env().context("the worker's configuration")?;
    let telemetry = telemetry::start(SERVICE, &config.trust_roots)?;
    let shutdown = shutdown::on_signal()?;
    let ended = run(config, shutdown).await;
    tracing::info!("Stopped");
    telemetry.stop().await;
    ended
}

async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    let listener = TcpListener::bind(config.metrics_listen)
        .await
        .with_context(|| {
            let address = config.metrics_listen;
            format!("WORKER_METRICS_LISTEN: cannot listen on {address}")
        })?;
    let measured = metrics::start()?;
    metrics::slots(&config.engine.slots);
    let registry = jobs::registry();
    metrics::kinds(registry.kinds());
    tokio::spawn(run_upkeep(measured.clone()));
    let started = Started::default();
    let router = health_server::router(measured, started.clone());
    tokio::spawn(async move { axum::serve(listener, router).await });

    let connecting = retry("MongoDB", async || Store::connect(&config.mongodb).await);
    let Some(store) = shutdown.run_until_cancelled(connecting).await else {
        return Ok(());
    };
    let store = Arc::new(store);
    let clients = Clients::new(&config.clients, &config.trust_roots)?;
    let context = Arc::new(Context {
        audit_keep: config.audit_keep,
        invoicing: config.invoicing,
        ..Context::new(
            store.clone(),
            &config.redis,
            clients,
            config.encryption_keys,
        )?
    });
    let preparing = retry("MongoDB", async || store::ensure_indexes(&store).await);
    if shutdown.run_until_cancelled(preparing).await.is_none() {
        return Ok(());
    }
    // Fails only if it was set before.
    let _ = started.set(context.clone());

    tracing::info!(worker = config.engine.worker, "Running jobs");
    let ended = dezky_worker::run(context, registry, config.engine, shutdown).await;
    store.close().await;
    ended
}
