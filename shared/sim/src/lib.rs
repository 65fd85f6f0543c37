//! Everything needed to run and test Dezky's control plane without external services: simulators of the upstreams,
//! tested against recorded exchanges, with fault injection and a record of every effect.
//!
//! For development and tests only.

pub mod authentik;
pub mod bench_output;
pub mod callers;
pub mod chaos;
pub mod control;
pub mod copied_tenants;
mod database_pool;
pub mod demo;
pub mod dns;
pub mod effects;
pub mod faults;
pub mod isolated_stores;
pub mod issuer;
pub mod ocis;
mod opening_balance;
pub mod ports;
pub mod process;
pub mod proxy;
pub mod relying_party;
pub mod server;
pub mod simulators;
pub mod stalwart;
pub mod stores;
pub mod stripe;
pub mod terminal;
pub mod tools;
pub mod workspace;
