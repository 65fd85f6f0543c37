//! The simulators and the stores, held to what they promise.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod control;
mod issuer;
mod stores;
