//! `cargo dev`: everything a developer runs here. All that it makes lies in `.dev/`.
#![expect(
    clippy::print_stdout,
    reason = "this is a command that talks to people"
)]

mod bench;
mod build;
mod chaos;
mod check;
mod dns;
mod instance;
mod reset;
mod steps;
mod test;
mod token;
mod tool;
mod up;

use std::{io, process::ExitCode};

use clap::Parser;
use dezky_sim::callers::Caller;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs and checks Dezky's control plane on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev")]
enum Dev {
    /// Builds and starts everything, provisions the tenant `demo`, and stays up until Ctrl-C.
    Up {
        /// Verify that the demo tenant is active, then stop: the exit status says whether it was.
        #[arg(long)]
        check: bool,
    },
    /// Prints a token for a caller of what `up` runs.
    Token {
        /// Who is calling.
        caller: Caller,
        /// How long the token is valid.
        #[arg(long, default_value_t = 12)]
        hours: u32,
    },
    /// Publishes and breaks records in the simulated DNS of what `up` runs.
    Dns {
        #[command(subcommand)]
        command: dns::Dns,
    },
    /// Forgets all data of what `up` ran.
    Reset,
    /// Runs the tests, with a real MongoDB and Redis.
    Test {
        /// Passed on to `cargo nextest run`, such as the names of tests.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Formatting, lints, documentation, dependencies.
    Check,
    /// Measures a release build, with a real MongoDB and Redis.
    Bench {
        /// Only this one: `engine` or `service`.
        only: Option<String>,
    },
    /// Runs everything under a load of intents while it is killed, cut off and lied to, and checks what must hold.
    Chaos {
        /// What the schedule of mishaps follows from; another each time when missing.
        #[arg(long)]
        seed: Option<u64>,
        /// For how long things go wrong.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(20..))]
        seconds: u64,
        /// With the api and the worker as they are released.
        #[arg(long)]
        release: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Dev::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("dezky_sim=info")),
        )
        .without_time()
        .with_level(false)
        .with_target(false)
        .with_writer(io::stderr)
        .init();

    let outcome = match command {
        Dev::Up { check } => up::up(check).await,
        Dev::Token { caller, hours } => token::token(caller, hours).await,
        Dev::Dns { command } => dns::dns(command).await,
        Dev::Reset => reset::reset(),
        Dev::Test { arguments } => test::test(&arguments).await,
        Dev::Check => check::check().await,
        Dev::Bench { only } => bench::bench(only.as_deref()).await,
        Dev::Chaos {
            seed,
            seconds,
            release,
        } => chaos::chaos(seed, seconds, release).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for Ctrl-C, or for another signal that asks us to end.
async fn interrupted() {
    let wait = async |kind| match signal(kind) {
        Ok(mut signals) => signals.recv().await,
        Err(_) => std::future::pending().await,
    };
    tokio::select! {
        _ = wait(SignalKind::interrupt()) => {}
        _ = wait(SignalKind::terminate()) => {}
        _ = wait(SignalKind::hangup()) => {}
    }
}
