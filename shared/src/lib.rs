//! What the api and the worker must agree on: the business's own types, the stores, the clients of the
//! upstreams, and the configuration both read.
//!
//! The plain types (`tenant`, `job`, `user`, …) use nothing; `store` and `clients` use the plain types.

pub mod clients;
pub mod clock;
pub mod config;
pub mod failure;
pub mod upstream;
