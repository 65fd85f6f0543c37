//! The simulators and the stores, held to what they promise.

mod ocis;
