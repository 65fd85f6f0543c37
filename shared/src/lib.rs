//! The contract between the api and the worker: domain types, stored documents, repositories, the job queue's data
//! model, and the process plumbing that both binaries share.
//!
//! Layers, each depending only on those before: `platform` is configuration, telemetry, clocks and connections; the
//! domain types (`tenant`, `user`, `partner`, …) and `queue` are the data model; `store` holds one repository for each
//! collection. Clients of the upstreams are in a separate crate (`dezky-upstreams`), so that the api cannot call them.

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
pub mod readiness;
pub mod security_policy;
pub mod store;
pub mod subscription;
pub mod subscription_snapshot;
pub mod tenant;
pub mod unknown_name;
pub mod upstream;
pub mod user;
