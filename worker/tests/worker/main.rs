//! The worker against a real MongoDB, a real Redis and simulated upstreams. Tests begin at the job that was
//! enqueued.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod answer_lost;
mod catching_up;
mod claiming;
mod claims;
mod credentials;
mod deprovision;
mod domains;
mod draining;
mod enqueue;
mod harness;
mod integrations;
mod leading;
mod leases;
mod outage;
mod owner;
mod provisioning;
mod proxy;
mod ready_set;
mod reconcile;
mod rescue;
mod scale;
mod script;
mod settling;
mod steps;
mod superseding;
mod suspension;
mod sweep;
mod time_limits;
mod transactions;
mod unknown;
mod upstreams;
mod world;
