//! The worker against a real MongoDB, a real Redis and simulated upstreams. Tests begin at the job that was
//! enqueued.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod claiming;
mod credentials;
mod draining;
mod enqueue;
mod harness;
mod leading;
mod leases;
mod outage;
mod provisioning;
mod proxy;
mod ready_set;
mod rescue;
mod scale;
mod script;
mod settling;
mod steps;
mod superseding;
mod sweep;
mod time_limits;
mod unknown;
mod upstreams;
