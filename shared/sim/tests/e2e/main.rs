//! The api and the worker as processes, on real stores and simulated upstreams: what survives when something is
//! killed, stopped or wiped.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod chaos;
mod killing;
mod stack;
mod stores;
mod tenants;
