//! Integration tests of the API through its router, with real MongoDB and Redis and the simulated issuer. Job
//! execution is covered by the worker's tests.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod access;
mod app;
mod audit;
mod bad_input;
mod bad_values;
mod billing_info;
mod branding;
mod client;
mod concealment;
mod concurrency;
mod domains;
mod events;
mod flags;
mod health;
mod idempotency;
mod infrastructure;
mod job_operations;
mod jobs;
mod odd_requests;
mod openapi;
mod operations;
mod paging;
mod partner_team;
mod partners;
mod personas;
mod prices;
mod rate_limits;
mod revoked;
mod schedules;
mod security_policy;
mod seed;
mod serving;
mod snapshots;
mod states;
mod subscriptions;
mod summary;
mod tenant_health;
mod tenant_users;
mod tenants;
mod tokens;
mod users;
mod waiting;
