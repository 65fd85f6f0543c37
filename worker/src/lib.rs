//! The worker: jobs in, upstream calls out.

pub mod config;
pub mod context;
pub mod engine;
pub mod fan_out;
pub mod jobs;
mod retry_delay;
pub mod work;
