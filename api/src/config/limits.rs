//! Rate limits and their environment variables.

use std::time::Duration;

use dezky_shared::platform::config::number;

/// Timeout of a Redis round trip. A request is not delayed longer to be counted.
const REDIS_TIMEOUT: Duration = Duration::from_millis(50);
/// Burst, in seconds' worth of requests.
const BURST_SECONDS: u32 = 4;
/// Burst of invalid tokens, in seconds' worth.
const FAILURES_BURST_SECONDS: u32 = 20;
/// Burst of changes of credentials, in seconds' worth.
const CREDENTIALS_BURST_SECONDS: u32 = 20;
/// Burst of webhook deliveries, in seconds' worth.
const WEBHOOKS_BURST_SECONDS: u32 = 10;
/// Highest configurable limit.
const MAX_PER_SECOND: u32 = 1_000_000;

/// Size of a token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Refill rate, in tokens per second. More than 0.
    pub per_second: f64,
    /// Capacity, in tokens. At least 1.
    pub burst: u32,
}

impl Limit {
    /// Number of tokens that a process takes from the shared bucket at a time.
    pub(crate) fn batch(self) -> u32 {
        (self.burst / 10).max(1)
    }
}

/// Rate limits. `None` switches a limit off.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// Requests per caller.
    pub caller: Option<Limit>,
    /// Requests per address.
    pub address: Option<Limit>,
    /// Invalid tokens per address.
    pub failed_sign_in: Option<Limit>,
    /// Changes of credentials per caller: each ends sessions or shows a secret, and takes several upstream calls.
    pub credentials: Option<Limit>,
    /// Webhook deliveries per address.
    pub webhook: Option<Limit>,
    /// Timeout of a Redis round trip.
    pub redis_timeout: Duration,
}

impl LimitsConfig {
    /// Reads `API_RATE_PER_CALLER`, `API_RATE_PER_ADDRESS`, `API_FAILED_SIGN_INS_PER_ADDRESS`,
    /// `API_CREDENTIAL_CHANGES_PER_CALLER` and `STRIPE_WEBHOOKS_PER_SECOND`.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            caller: limit("API_RATE_PER_CALLER", 50, BURST_SECONDS)?,
            address: limit("API_RATE_PER_ADDRESS", 500, BURST_SECONDS)?,
            failed_sign_in: limit("API_FAILED_SIGN_INS_PER_ADDRESS", 1, FAILURES_BURST_SECONDS)?,
            credentials: limit(
                "API_CREDENTIAL_CHANGES_PER_CALLER",
                1,
                CREDENTIALS_BURST_SECONDS,
            )?,
            webhook: limit("STRIPE_WEBHOOKS_PER_SECOND", 100, WEBHOOKS_BURST_SECONDS)?,
            redis_timeout: REDIS_TIMEOUT,
        })
    }
}

fn limit(name: &str, default: u32, burst_seconds: u32) -> anyhow::Result<Option<Limit>> {
    let per_second = number(name, default, 0..=MAX_PER_SECOND)?;
    Ok((per_second > 0).then(|| Limit {
        per_second: per_second.into(),
        burst: per_second * burst_seconds,
    }))
}
