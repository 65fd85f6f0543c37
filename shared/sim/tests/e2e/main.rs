//! The api and the worker as processes, on real stores and simulated upstreams: what survives when something is
//! killed, stopped or wiped.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod chaos;
mod collector;
mod domains;
mod events;
mod killing;
mod metrics;
mod promql;
mod schemathesis;
mod scrape;
mod stack;
mod stores;
mod tenants;
mod traces;
