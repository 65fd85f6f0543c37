//! End-to-end tests: api and worker as processes, on real stores and simulated upstreams, while processes and stores
//! are killed, stopped or flushed.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod billing;
mod chaos;
mod collector;
mod console;
mod domains;
mod events;
mod killing;
mod metrics;
mod promql;
mod schemathesis;
mod scrape;
mod secrets;
mod stack;
mod stores;
mod tenants;
mod traces;
mod walkthrough;
