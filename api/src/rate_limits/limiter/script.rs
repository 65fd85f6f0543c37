//! The bucket as Redis keeps it, by its own clock, in one step that no other process comes between.

use std::time::Duration;

use redis::{RedisError, Script, aio::ConnectionManager};

use super::{Limit, bucket::TokenBatch};

/// A hash: `tokens`, and `at`, the microsecond in which there were so many. It goes once the bucket must be full.
const LEASE: &str = r"
local per_second, burst, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local stored = redis.call('HMGET', KEYS[1], 'tokens', 'at')
local tokens, at = tonumber(stored[1] or burst), tonumber(stored[2] or now)
tokens = math.min(burst, tokens + math.max(now - at, 0) * per_second / 1000000)
local granted = math.min(wanted, math.floor(tokens))
tokens = tokens - granted
redis.call('HSET', KEYS[1], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], math.ceil((burst - tokens) / per_second * 1000) + 1000)
if granted > 0 then return {granted, 0} end
return {0, math.ceil((1 - tokens) / per_second * 1000000)}
";

pub(super) struct LeaseScript(Script);

impl LeaseScript {
    pub(super) fn new() -> Self {
        Self(Script::new(LEASE))
    }

    /// Takes a batch out of the bucket at `key`, or what there is.
    pub(super) async fn lease(
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
