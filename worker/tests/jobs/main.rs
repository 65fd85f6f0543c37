//! The jobs against a real MongoDB, a real Redis and simulated upstreams, from the stored job on.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod answer_lost;
mod apps;
mod audit;
mod card_subscriptions;
mod cards;
mod customers;
mod deprovision;
mod domain_claims;
mod dying;
mod fail_each;
mod fan_out;
mod fresh_tenants;
mod import_members;
mod integrations;
mod invoicing;
mod job_operation;
mod large_tenants;
mod lost_worker;
mod members;
mod mfa;
mod mixed_versions;
mod owner;
mod partner_team;
mod payouts;
mod provision;
mod reconcile;
mod reconcile_all;
mod refused_writes;
mod repeat_each;
mod restore;
mod scenarios;
mod spaces;
mod storage;
mod stripe_events;
mod stripe_invoices;
mod subscription_snapshots;
mod summarize_months;
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
