//! The worker: runs jobs, which converge the upstreams to the state that the API recorded.

pub mod config;
pub mod context;
pub mod dns;
pub mod dns_rate_limit;
mod duties;
pub mod engine;
pub mod fan_out;
pub mod health_server;
mod host;
pub mod jobs;
pub mod metrics;
mod retry_delay;
pub mod setup;
pub mod steps;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::{context::Context, engine::EngineConfig, steps::Registry};

/// Runs a worker until `shutdown`: the [engine] with the duties of a leader. Jobs that run then may end within the drain
/// timeout; those that do not are released.
pub async fn run(
    context: Arc<Context>,
    registry: Registry,
    config: EngineConfig,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let duties = duties::all(&context, &registry, &config);
    engine::run(context, registry, duties, config, shutdown).await
}
