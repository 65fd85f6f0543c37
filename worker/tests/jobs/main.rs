//! The jobs against a real MongoDB, a real Redis and simulated upstreams, from the stored job on.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod answer_lost;
mod audit;
mod deprovision;
mod domain_claims;
mod fail_each;
mod fan_out;
mod integrations;
mod job_operation;
mod large_tenants;
mod lost_worker;
mod mixed_versions;
mod owner;
mod partner_team;
mod provision;
mod reconcile;
mod reconcile_all;
mod repeat_each;
mod restore;
mod scenarios;
mod spaces;
mod subscription_snapshots;
mod suspension;
mod tenant_domains;
mod upstream_outage;
mod world;

#[path = "../support/harness.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine")]
mod harness;
#[path = "../support/script.rs"]
#[expect(dead_code, reason = "shared with the tests of the engine")]
mod script;
#[path = "../support/upstreams.rs"]
mod upstreams;
