//! The contract between the api and the worker: domain types, stored documents, repositories, the job queue's data
//! model, and the process plumbing that both binaries share.
//!
//! Layers, each depending only on those before: `platform` is configuration, telemetry, clocks and connections; the
//! domain types (`tenant`, `user`, `partner`, …) and `queue` are the data model; `store` holds one repository for each
//! collection. Clients of the upstreams are in a separate crate (`dezky-upstreams`), so that the api cannot call them.

#![warn(missing_docs)]

pub mod account;
pub mod allowance;
pub mod app;
pub mod audit;
pub mod billing;
pub mod billing_account;
pub mod billing_totals;
pub mod branding;
pub mod card_billing;
pub mod console_session;
pub mod dependency;
pub mod domain;
pub mod feature_flag;
pub mod id;
pub mod invitation;
pub mod invoice;
pub mod invoicing;
pub mod ledger;
pub mod member;
pub mod member_import;
pub mod mfa;
pub mod money;
pub mod partition;
pub mod partner;
pub mod platform;
pub mod queue;
pub mod readiness;
pub mod report;
pub mod security_policy;
pub mod setup_intent;
pub mod storage_report;
pub mod store;
pub mod stripe_call;
pub mod stripe_event;
pub mod subscription;
pub mod subscription_snapshot;
pub mod tenant;
pub mod unicode;
pub mod unknown_name;
pub mod upstream;
pub mod user;
pub mod webhook_event;
