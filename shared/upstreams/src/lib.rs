//! Clients of the upstreams (Authentik, Stalwart, oCIS), the circuit breaker in front of them, and the lease deadline
//! that bounds every upstream write.
//!
//! Only the worker and the simulators depend on this crate. The api does not, so it cannot call an upstream.

#![warn(missing_docs)]

pub mod circuit_breaker;
pub mod clients;
pub mod lease_deadline;
