//! The simulators against what was recorded from the real upstreams, the clients against the simulators, the real
//! stores, and what the containers are built and started from against the code.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod authentik;
mod control;
mod deployment;
mod issuer;
mod ocis;
mod stalwart;
mod stores;
