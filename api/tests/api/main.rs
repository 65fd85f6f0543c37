//! The API through its router, with real MongoDB and Redis and the simulated issuer. What happens to a job after it
//! was enqueued is the worker's to test.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod access;
mod app;
mod bad_input;
mod bad_values;
mod concurrency;
mod domains;
mod events;
mod everyone;
mod health;
mod idempotency;
mod job_operations;
mod jobs;
mod odd_requests;
mod openapi;
mod operations;
mod paging;
mod revoked;
mod schedules;
mod seed;
mod serving;
mod states;
mod tenants;
mod tokens;
mod users;
mod waiting;
