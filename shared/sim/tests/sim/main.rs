//! The simulators against what was recorded from the real upstreams, and the clients against the simulators.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod stalwart;
