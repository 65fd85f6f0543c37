//! The simulators against what was recorded from the real upstreams, the clients against the simulators, and the
//! real stores.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod authentik;
mod control;
mod issuer;
mod ocis;
mod stalwart;
mod stores;
