//! Tests of the simulators against recorded exchanges, the clients against the simulators, the real stores, and the
//! deployment files and documents against the code.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod alerts;
mod authentik;
mod control;
mod deployment;
mod documents;
mod faults;
mod import_circles;
mod issuer;
mod ocis;
mod proxy;
mod query_costs;
mod refused_variables;
mod setup_checks;
mod sign_in;
mod stalwart;
mod stores;
mod stripe;
mod worker_check;
