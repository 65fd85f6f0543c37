//! The worker: jobs in, upstream calls out.

pub mod config;
pub mod context;
pub mod dns;
pub mod engine;
pub mod jobs;
mod retry_delay;
pub mod work;
pub mod zone_limits;
