//! The worker against a real MongoDB, a real Redis and simulated upstreams. Tests begin at the job that was
//! enqueued.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod answer_lost;
mod audit;
mod catching_up;
mod circuits;
mod claiming;
mod claims;
mod credentials;
mod deprovision;
mod domains;
mod draining;
mod enqueue;
mod fail_each;
mod fairness;
mod fan_out;
mod gate;
mod harness;
mod heartbeats;
mod integrations;
mod job_operations;
mod leading;
mod leases;
mod measuring;
mod mixed_versions;
mod outage;
mod owner;
mod partner_team;
mod probes;
mod provisioning;
mod ready_set;
mod reconcile;
mod reconcile_all;
mod repeat_each;
mod rescue;
mod restore;
mod scale;
mod scenarios;
mod schedules;
mod script;
mod secrets;
mod settling;
mod snapshots;
mod state_machine;
mod steps;
mod superseding;
mod suspension;
mod sweep;
mod time_limits;
mod together;
mod transactions;
mod unknown;
mod upstreams;
mod world;
