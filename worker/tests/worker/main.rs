//! The worker against a real MongoDB, a real Redis and simulated upstreams. Tests begin at the job that was
//! enqueued.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod answer_lost;
mod deprovision;
mod domains;
mod harness;
mod integrations;
mod outage;
mod owner;
mod provisioning;
mod reconcile;
mod suspension;
mod world;
