//! Serves all simulators and their control API until a signal.

use std::{io, path::PathBuf, sync::Arc};

use anyhow::Context as _;
use clap::Parser;
use dezky_sim::{
    control,
    issuer::IssuerOptions,
    simulators::{Addresses, Simulators},
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
    let control = addresses.at(addresses.control_port);
    let listener = TcpListener::bind(control)
        .await
        .with_context(|| format!("the control API cannot listen on {control}"))?;
    tracing::info!(url = format!("http://{control}"), "Serving the control API");

    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        served = axum::serve(listener, control::router(simulators)) => served?,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
