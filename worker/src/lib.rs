//! The worker: jobs in, upstream calls out.

pub mod context;
pub mod engine;
mod retry_delay;
pub mod work;
