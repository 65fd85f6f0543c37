//! The verifier against a DNS server on loopback.

#![expect(clippy::unwrap_used, reason = "a panic fails the test")]

mod cases;
mod dkim;
mod dmarc;
mod failures;
mod hostile;
mod keys;
mod mx;
mod near_misses;
mod optional_records;
mod ownership;
mod resolvers;
mod spf;
mod spf_limits;
mod transports;
