//! The worker: jobs in, upstream calls out.

pub mod config;
pub mod context;
pub mod dns;
pub mod engine;
pub mod fan_out;
pub mod health_server;
pub mod jobs;
pub mod metrics;
mod retry_delay;
pub mod steps;
pub mod zone_limits;
