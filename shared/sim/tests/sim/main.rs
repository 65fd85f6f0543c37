//! The simulators held to what the upstreams really do, and the clients against the simulators.

#![expect(clippy::unwrap_used, reason = "all of this is a test")]

mod authentik;
