//! The engine against a real MongoDB and a real Redis, mostly with scripted steps.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod admission;
mod backlog_history;
mod backlog_metrics;
mod circuit_breakers;
mod claim;
mod control_state;
mod credentials;
mod deaths;
mod dependency_checks;
mod drain;
mod enqueue;
mod fairness;
mod group_commit;
mod group_completion;
mod heartbeat;
mod in_doubt_writes;
mod lanes;
mod leader;
mod lease;
mod missing_permissions;
mod mixed_versions;
mod mongodb_outage;
mod open_transaction;
mod pauses;
mod rate_queue;
mod ready_set;
mod rescue;
mod scale;
mod schedules;
mod secrets;
mod settle;
mod setup_checks;
mod state_machine;
mod steps;
mod supersede;
mod sweep;
mod time_limits;
mod unreadable;

#[path = "../support/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the jobs")]
mod harness;
#[path = "../support/script.rs"]
mod script;
#[path = "../support/upstreams.rs"]
#[expect(dead_code, reason = "shared with the tests of the jobs")]
mod upstreams;
