//! Process plumbing that both binaries share: configuration, clocks, telemetry, connections, TLS and shutdown.

pub mod backoff;
pub mod change_feed;
pub mod clock;
pub mod coalescer;
pub mod config;
pub mod http_url;
pub mod metrics;
pub mod redis;
pub mod rlimit;
pub mod shutdown;
pub mod telemetry;
pub mod tls;
pub mod trace;
