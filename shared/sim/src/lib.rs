//! Everything needed to run and test Dezky's control plane without the outside world: simulators of the
//! upstreams held to what the real ones do, with faults on demand and a record of every effect.
//!
//! For development and tests only.

pub mod authentik;
pub mod effects;
pub mod faults;
pub mod ocis;
pub mod server;
pub mod stalwart;
