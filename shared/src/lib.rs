//! The contract between the api and the worker: domain types, stored documents, repositories, the job queue's data
//! model, and the process plumbing that both binaries share.
//!
//! The domain types (`tenant`, `user`, `partner`, …) depend on nothing else here. `queue` is the job queue's data model,
//! `store` holds one repository for each collection, and `platform` is configuration, telemetry, clocks and connections.
//! Clients of the upstreams live in a crate of their own (`dezky-upstreams`), so that the api cannot call one.

#![warn(missing_docs)]

pub mod audit;
pub mod billing;
pub mod branding;
pub mod dependency;
pub mod domain;
pub mod feature_flag;
pub mod id;
pub mod invitation;
pub mod partner;
pub mod platform;
pub mod queue;
pub mod security_policy;
pub mod store;
pub mod subscription;
pub mod subscription_snapshot;
pub mod tenant;
pub mod upstream;
pub mod user;
