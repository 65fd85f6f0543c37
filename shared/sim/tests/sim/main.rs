//! The simulators and the stores, held to what they promise.

mod control;
mod issuer;
mod stores;
