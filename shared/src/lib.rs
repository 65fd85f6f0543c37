//! What the api and the worker must agree on: the business's own types, the stores, the clients of the
//! upstreams, and the configuration both read.
//!
//! The plain types (`tenant`, `job`, `user`, …) use nothing; `store` and `clients` use the plain types.

#![warn(missing_docs)]

pub mod audit;
pub mod branding;
pub mod changes;
pub mod circuit;
pub mod clients;
pub mod clock;
pub mod config;
pub mod domain;
pub mod failure;
pub mod flag;
pub mod health;
pub mod id;
pub mod invitation;
pub mod job;
pub mod job_operation;
pub mod jobs;
pub mod metrics;
pub mod open_files;
pub mod partner;
pub mod pause;
pub mod price;
pub mod probe;
pub mod rate_limit;
pub mod readiness;
pub mod ready;
pub mod reconnect;
pub mod redis;
pub mod schedule;
pub mod schedules;
pub mod sealed;
pub mod security_policy;
pub mod shutdown;
pub mod snapshot;
pub mod store;
pub mod subscription;
pub mod telemetry;
pub mod tenant;
pub mod trace;
pub mod upstream;
pub mod user;
