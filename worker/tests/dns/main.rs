//! The verifier against a real DNS server on loopback, with records made in each test.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on should stop there"
)]

mod cases;
mod dkim;
mod dmarc;
mod extras;
mod failures;
mod hostile;
mod keys;
mod mx;
mod ownership;
mod resolvers;
mod spf;
mod spf_limits;
mod transports;
