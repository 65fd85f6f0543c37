//! Token bucket in Redis, as an atomic script with the clock of Redis.

use std::time::Duration;

use redis::{RedisError, Script, aio::ConnectionManager};

use super::bucket::TokenBatch;
use crate::config::Limit;

/// Defines `now`, in microseconds.
const CLOCK: &str = r"
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
";

/// Stores a hash of `tokens` and `at`, the time in microseconds at which the bucket had that many. Expires once the
/// bucket is full again.
const LEASE: &str = r"
local per_second, burst, batch = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(stored[1] or burst), tonumber(stored[2] or now)
tokens = math.min(burst, tokens + math.max(now - at, 0) * per_second / 1000000)
local granted = math.min(batch, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / per_second * 1000) + 1000)
if granted > 0 then return {granted, 0} end
return {0, math.ceil((1 - tokens) / per_second * 1000000)}
";

pub(super) struct LeaseScript(Script);

impl LeaseScript {
    pub(super) fn new() -> Self {
        Self::with_clock(CLOCK)
    }

    /// The script with another clock: Lua that defines `now`.
    pub(super) fn with_clock(clock: &str) -> Self {
        Self(Script::new(&format!("{clock}{LEASE}")))
    }

    /// Takes up to a batch of tokens from the bucket at `key`.
    pub(super) async fn take(
        &self,
        connection: &mut ConnectionManager,
        key: &str,
        limit: Limit,
    ) -> Result<TokenBatch, RedisError> {
        let (granted, wait): (u32, u64) = self
            .0
            .key(key)
            .arg(limit.per_second)
            .arg(limit.burst)
            .arg(limit.batch())
            .invoke_async(connection)
            .await?;
        Ok(TokenBatch {
            granted,
            wait: Duration::from_micros(wait),
        })
    }
}
