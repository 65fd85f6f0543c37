//! Rate limits: requests per address, requests and changes of credentials per caller, and invalid tokens and signatures
//! per address. Excess requests get 429 with `Retry-After` and are not executed.

pub mod limiter;

use std::{net::IpAddr, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use dezky_shared::platform::redis::RedisConfig;

pub(crate) use self::limiter::Bucket;
use self::limiter::{RateLimit, RateLimiter};
use crate::{
    config::{Limit, LimitsConfig},
    error::{ApiError, ProblemCode},
    metrics,
    request_info::RequestInfo,
};

/// Health checks. Their limit is separate: other requests from the address of a monitor must not make it fail.
const HEALTH: [&str; 2] = ["/healthz", "/readyz"];

/// Webhooks. Their limit is separate, too: Stripe delivers many events at once.
const WEBHOOK: &str = "/webhooks/stripe";

/// Rate limits of the API.
#[derive(Debug)]
pub struct RateLimits {
    caller: Option<RateLimit>,
    address: Option<RateLimit>,
    health: Option<RateLimit>,
    failed_sign_in: Option<RateLimit>,
    credentials: Option<RateLimit>,
    webhook: Option<RateLimit>,
}

impl RateLimits {
    /// Rate limits with shared token buckets in Redis.
    pub fn new(config: &LimitsConfig, redis: &RedisConfig) -> anyhow::Result<Self> {
        let shared = RateLimiter::new(redis, config.redis_timeout)?;
        let bucket = |name, limit: Option<Limit>| limit.map(|limit| shared.limit(name, limit));
        Ok(Self {
            caller: bucket("caller", config.caller),
            address: bucket("address", config.address),
            health: bucket("health", config.address),
            failed_sign_in: bucket("failed_sign_in", config.failed_sign_in),
            credentials: bucket("credentials", config.credentials),
            webhook: bucket("webhook", config.webhook),
        })
    }

    /// Counts a request of a caller, identified by `subject`.
    pub async fn check_caller(&self, subject: &str) -> Result<(), ApiError> {
        let Some(limit) = &self.caller else {
            return Ok(());
        };
        let acquired = limit.acquire(subject).await;
        acquired.map_err(|wait| rejection("caller", "You sent too many requests.", wait))
    }

    /// Counts a change of credentials by a caller, identified by `subject`: a reset of a password or of second factors, a
    /// rotation of a client secret, an end of sessions.
    pub async fn check_credentials(&self, subject: &str) -> Result<(), ApiError> {
        let Some(limit) = &self.credentials else {
            return Ok(());
        };
        let acquired = limit.acquire(subject).await;
        let detail = "You reset too many passwords, sessions, second factors or client secrets.";
        acquired.map_err(|wait| rejection("credentials", detail, wait))
    }

    /// Counts a request for `path` from an address.
    async fn check_address(&self, address: IpAddr, path: &str) -> Result<(), ApiError> {
        let (name, limit) = if HEALTH.contains(&path) {
            ("health", &self.health)
        } else if path == WEBHOOK {
            ("webhook", &self.webhook)
        } else {
            ("address", &self.address)
        };
        let Some(limit) = limit else {
            return Ok(());
        };
        let acquired = limit.acquire(&network(address)).await;
        let detail = "Too many requests from your address.";
        acquired.map_err(|wait| rejection(name, detail, wait))
    }

    /// Counts a rejected token or signature if it may be a guess, and returns the error to respond with. A valid one is
    /// never rejected because of other clients at its address.
    ///
    /// Expired tokens do not count: they were valid, and portals send them routinely.
    pub async fn check_rejected_credentials(
        &self,
        address: Option<IpAddr>,
        rejected: ApiError,
    ) -> ApiError {
        let is_guess = matches!(
            rejected.code,
            ProblemCode::TokenInvalid
                | ProblemCode::TokenWrongIssuer
                | ProblemCode::TokenWrongAudience
                | ProblemCode::InvalidSignature
        );
        let limit = self.failed_sign_in.as_ref().zip(address);
        let Some((limit, address)) = limit.filter(|_| is_guess) else {
            return rejected;
        };
        match limit.acquire(&network(address)).await {
            Ok(()) => rejected,
            Err(wait) => {
                let detail = "Too many invalid tokens or signatures from your address.";
                rejection("failed_sign_in", detail, wait)
            }
        }
    }
}

/// Middleware: counts every request by address.
pub async fn limit_by_address(
    State(limits): State<Arc<RateLimits>>,
    request: Request,
    next: Next,
) -> Response {
    let info = request.extensions().get::<RequestInfo>();
    if let Some(address) = info.and_then(|info: &RequestInfo| info.ip)
        && let Err(rejected) = limits.check_address(address, request.uri().path()).await
    {
        return rejected.into_response();
    }
    next.run(request).await
}

fn rejection(limit: &'static str, detail: &str, wait: Duration) -> ApiError {
    metrics::rate_limited(limit);
    let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
    let mut error = ApiError::new(ProblemCode::TooManyRequests).with_detail(detail);
    error.retry_after = Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
    error
}

/// Network of a client: the address for IPv4, the /64 prefix for IPv6 (RFC 6177).
pub(crate) fn network(address: IpAddr) -> String {
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
    fn ipv6_addresses_are_limited_per_64_network() {
        let of = |text: &str| network(text.parse().unwrap());

        assert_eq!(of("192.0.2.7"), "192.0.2.7");
        assert_eq!(of("::ffff:192.0.2.7"), "192.0.2.7");
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), of("2001:db8:1:2::1"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
    }

    #[test]
    fn retry_after_is_at_least_one_second() {
        let after = |millis| {
            let wait = Duration::from_millis(millis);
            rejection("caller", "", wait).retry_after
        };

        assert_eq!(after(0), Some(1));
        assert_eq!(after(999), Some(1));
        assert_eq!(after(1_001), Some(2));
    }
}
