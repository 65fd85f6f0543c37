//! The verifier against a real DNS server on loopback, with records made in each test.

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
