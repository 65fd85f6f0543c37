//! The `cargo dev` command: runs, tests and measures the control plane. Everything it creates is in `.dev/`.
#![expect(clippy::print_stdout, reason = "the output of a command")]

mod bench;
mod build;
mod chaos;
mod check;
mod dns;
mod doctor;
mod document;
mod instance;
mod reset;
mod scratch;
mod steps;
mod stripe;
mod test;
mod token;
mod tool;
mod up;

use std::{io, process::ExitCode};

use clap::Parser;
use dezky_sim::{callers::Caller, terminal};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Runs, tests and measures Dezky's control plane on this machine.
#[derive(Debug, Parser)]
#[command(name = "cargo dev", bin_name = "cargo dev")]
enum Dev {
    /// Build and start everything, provision the tenant `demo`, and stay up until Ctrl-C.
    Up {
        /// Verify that the demo tenant is active and that its next invoice comes by itself, for which a month passes at the
        /// simulated Stripe, then stop. The exit status is the result.
        #[arg(long)]
        check: bool,
    },
    /// Print a token for the running `cargo dev up`.
    Token {
        /// Kind of caller.
        caller: Caller,
        /// Validity in hours.
        #[arg(long, default_value_t = 12)]
        hours: u32,
    },
    /// Publish and remove records in the simulated DNS of the running `cargo dev up`.
    Dns {
        #[command(subcommand)]
        command: dns::Dns,
    },
    /// Control the simulated Stripe of the running `cargo dev up`.
    Stripe {
        #[command(subcommand)]
        command: stripe::Stripe,
    },
    /// Check the stores, upstreams and resolvers of the running `cargo dev up`, or those of the environment.
    Doctor,
    /// Delete all data of `cargo dev up`.
    Reset,
    /// Take the pictures of the operators' console in .ops/console.md, with data of their own.
    Pictures,
    /// Run the tests with a real MongoDB and Redis.
    Test {
        /// Arguments for `cargo nextest run`, such as names of tests.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check formatting, lints, documentation, dependencies and licences.
    Check,
    /// Measure a release build and write the figures to .ops/benchmarks.md.
    Bench(bench::Arguments),
    /// Inject faults into the whole system under load, and check its promises.
    Chaos(chaos::Arguments),
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
        .with_ansi(terminal::supports_color(&io::stderr()))
        .with_writer(io::stderr)
        .init();

    let outcome = match command {
        Dev::Up { check } => up::up(check).await,
        Dev::Token { caller, hours } => token::token(caller, hours).await,
        Dev::Dns { command } => dns::dns(command).await,
        Dev::Stripe { command } => stripe::stripe(command).await,
        Dev::Doctor => doctor::doctor().await,
        Dev::Reset => reset::reset(),
        Dev::Pictures => up::pictures().await,
        Dev::Test { arguments } => test::test(&arguments).await,
        Dev::Check => check::check().await,
        Dev::Bench(arguments) => bench::bench(arguments).await,
        Dev::Chaos(arguments) => chaos::chaos(arguments).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Waits for Ctrl-C or another signal to terminate.
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
