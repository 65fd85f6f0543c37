//! The worker: runs jobs, which converge the upstreams to the state that the API recorded.

pub mod config;
pub mod context;
pub mod dns;
pub mod dns_rate_limit;
mod duties;
pub mod engine;
pub mod fan_out;
pub mod health_server;
pub mod jobs;
pub mod metrics;
mod retry_delay;
pub mod setup;
pub mod steps;
