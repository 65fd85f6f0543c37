//! How much may be asked for: by each address, by each caller, and how often an address may come with tokens that are
//! not valid. What is over a limit is 429 with `Retry-After`, and has no effect.

pub mod limiter;

use std::{net::IpAddr, time::Duration};

use crate::rate_limits::limiter::{Limit, RateLimit, RateLimiter};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use dezky_shared::platform::{config::optional, redis::RedisConfig};

use crate::{
    error::{ApiError, ProblemCode},
    extract::RequestInfo,
    metrics,
    state::SharedState,
};

/// How long a request waits for Redis to tell whether it is within its limits.
const PATIENCE: Duration = Duration::from_millis(50);
/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: u32 = 4;
/// How many seconds' worth of tokens that are not valid may come at once.
const FAILURES_BURST_SECONDS: u32 = 20;
/// What is asked by whoever looks after the process.
const UNCOUNTED: [&str; 2] = ["/healthz", "/readyz"];
/// The highest limit that can be configured.
const HIGHEST: u32 = 1_000_000;

/// The limits. One that is missing is switched off.
#[derive(Debug, Clone)]
pub struct LimitsConfig {
    /// On the requests of each caller.
    pub caller: Option<Limit>,
    /// On the requests from each address, whoever sends them.
    pub address: Option<Limit>,
    /// On the tokens from each address that are not valid.
    pub failed_sign_in: Option<Limit>,
    /// How long a request waits for Redis.
    pub patience: Duration,
}

impl LimitsConfig {
    /// Reads `API_RATE_PER_CALLER`, `API_RATE_PER_ADDRESS` and `API_FAILED_SIGN_INS_PER_ADDRESS`.
    pub fn from_env() -> anyhow::Result<Self> {
        Ok(Self {
            caller: limit("API_RATE_PER_CALLER", 50, BURST_SECONDS)?,
            address: limit("API_RATE_PER_ADDRESS", 500, BURST_SECONDS)?,
            failed_sign_in: limit("API_FAILED_SIGN_INS_PER_ADDRESS", 1, FAILURES_BURST_SECONDS)?,
            patience: PATIENCE,
        })
    }
}

fn limit(name: &str, default: u32, burst_seconds: u32) -> anyhow::Result<Option<Limit>> {
    let per_second = optional(name)?.unwrap_or(default);
    anyhow::ensure!(
        per_second <= HIGHEST,
        "{name} is not valid: expected 0 to {HIGHEST}"
    );
    Ok((per_second > 0).then(|| Limit {
        per_second: per_second.into(),
        burst: per_second * burst_seconds,
    }))
}

/// Counts requests against the limits.
#[derive(Debug)]
pub struct RateLimits {
    caller: Option<RateLimit>,
    address: Option<RateLimit>,
    failed_sign_in: Option<RateLimit>,
}

impl RateLimits {
    /// Counts in Redis.
    pub fn new(config: &LimitsConfig, redis: &RedisConfig) -> anyhow::Result<Self> {
        let shared = RateLimiter::new(redis, config.patience)?;
        let keep = |name, limit: Option<Limit>| limit.map(|limit| shared.limit(name, limit));
        Ok(Self {
            caller: keep("caller", config.caller),
            address: keep("address", config.address),
            failed_sign_in: keep("failed_sign_in", config.failed_sign_in),
        })
    }

    /// Counts a request of the caller with this `subject`.
    pub async fn count_caller(&self, subject: &str) -> Result<(), ApiError> {
        let Some(limit) = &self.caller else {
            return Ok(());
        };
        let taken = limit.acquire(subject).await;
        taken.map_err(|wait| refusal("caller", "You send too many requests.", wait))
    }

    /// Counts a request from this address.
    async fn count_address(&self, address: IpAddr) -> Result<(), ApiError> {
        let Some(limit) = &self.address else {
            return Ok(());
        };
        let taken = limit.acquire(&network(address)).await;
        let detail = "Too many requests come from your address.";
        taken.map_err(|wait| refusal("address", detail, wait))
    }

    /// Counts a token that was refused, if that speaks of somebody who guesses, and says what to answer. A valid one is
    /// never refused for what others at its address send.
    ///
    /// One that has ended speaks of nobody: it was valid, and every portal comes with some all day long.
    pub async fn count_refused_token(
        &self,
        address: Option<IpAddr>,
        refused: ApiError,
    ) -> ApiError {
        let is_guess = matches!(
            refused.code,
            ProblemCode::TokenInvalid
                | ProblemCode::TokenWrongIssuer
                | ProblemCode::TokenWrongAudience
        );
        let limit = self.failed_sign_in.as_ref().zip(address);
        let Some((limit, address)) = limit.filter(|_| is_guess) else {
            return refused;
        };
        match limit.acquire(&network(address)).await {
            Ok(()) => refused,
            Err(wait) => {
                let detail = "Too many tokens that are not valid come from your address.";
                refusal("failed_sign_in", detail, wait)
            }
        }
    }
}

/// Counts every request from an address, but those that ask how the process is.
pub async fn limit_by_address(
    State(app): State<SharedState>,
    request: Request,
    next: Next,
) -> Response {
    let info = request.extensions().get::<RequestInfo>();
    let is_counted = !UNCOUNTED.contains(&request.uri().path());
    if let Some(address) = info
        .and_then(|info: &RequestInfo| info.ip)
        .filter(|_| is_counted)
        && let Err(refused) = app.limits.count_address(address).await
    {
        return refused.into_response();
    }
    next.run(request).await
}

fn refusal(limit: &'static str, detail: &str, wait: Duration) -> ApiError {
    metrics::rate_limited(limit);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let mut refused = ApiError::new(ProblemCode::TooManyRequests).with_detail(detail);
    refused.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
    refused
}

/// Whose address it is: of IPv6, one has 2^64 of them (RFC 6177).
fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_a_network_of_ipv6_has_one_address() {
        let of = |text: &str| network(text.parse().unwrap());

        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }

    #[test]
    fn a_refusal_never_says_to_come_back_at_once() {
        let after = |millis| {
            let wait = Duration::from_millis(millis);
            refusal("caller", "", wait).retry_after
        };

        assert_eq!(after(0), Some(1));
        assert_eq!(after(999), Some(1));
        assert_eq!(after(1_001), Some(2));
    }
}
