//! Serves all simulators and their control API until a signal.

use std::{
    fs, io,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use clap::Parser;
use dezky_sim::{
    control,
    issuer::IssuerOptions,
    simulators::{Addresses, Simulators},
    stripe::StripeSim,
    terminal,
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tracing_subscriber::EnvFilter;

/// Simulators of Dezky's upstreams, for development and tests.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(flatten)]
    addresses: Addresses,
    /// Base URL of the issuers, where it differs from the listen address.
    #[arg(long)]
    issuer_url: Option<String>,
    /// Directory for the issuers' private keys, so that tokens survive a restart.
    #[arg(long)]
    keys: Option<PathBuf>,
    /// File for Stripe's objects and clock, so that payments survive a restart.
    #[arg(long)]
    stripe_state: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info")),
        )
        .with_ansi(terminal::supports_color(&io::stdout()))
        .init();

    let options = IssuerOptions {
        public_url: arguments.issuer_url,
        keys: arguments.keys,
    };
    let addresses = arguments.addresses;
    let simulators = Arc::new(Simulators::start(&addresses, options).await?);
    for simulated in simulators.all() {
        tracing::info!(upstream = simulated.name, url = simulated.url, "Simulating");
    }
    if let Some(file) = &arguments.stripe_state {
        restore(&simulators.stripe, file)?;
    }
    let control = addresses.at(addresses.control_port);
    let listener = TcpListener::bind(control)
        .await
        .with_context(|| format!("the control API cannot listen on {control}"))?;
    tracing::info!(url = format!("http://{control}"), "Serving the control API");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        served = axum::serve(listener, control::router(simulators.clone())) => served?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    if let Some(file) = &arguments.stripe_state {
        save(&simulators.stripe, file)?;
    }
    Ok(())
}

/// Restores the objects in the file, if it exists.
fn restore(stripe: &StripeSim, file: &Path) -> anyhow::Result<()> {
    stripe.number_from_now();
    let saved = match fs::read(file) {
        Ok(saved) => saved,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let restored = serde_json::from_slice(&saved).and_then(|saved| stripe.restore(saved));
    restored.with_context(|| format!("{} is not readable", file.display()))
}

/// Replaces the file atomically: the simulators may be killed while they stop.
fn save(stripe: &StripeSim, file: &Path) -> anyhow::Result<()> {
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let partial = file.with_extension("partial");
    fs::write(&partial, stripe.saved().to_string())?;
    fs::rename(partial, file)?;
    Ok(())
}
