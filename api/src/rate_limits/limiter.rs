//! Rate limiter: a token bucket per client, shared by all processes in Redis.
//!
//! A process takes tokens from the shared bucket in batches of a tenth of its capacity and spends them locally, so most
//! requests need no round trip. The limit over all processes is exact up to one batch per process. While a bucket is
//! empty, its client is rejected locally until the next token is due.
//!
//! If Redis is slow or unavailable, each process falls back to local buckets for a while, which start full.

#[cfg(test)]
mod agreement;
mod bucket;
mod script;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics::gauge;
use redis::aio::ConnectionManager;
use tokio::{sync::Mutex as AsyncMutex, time::timeout};

pub(crate) use self::bucket::Bucket;
use self::{bucket::TokenBatch, script::LeaseScript};
use crate::{config::Limit, metrics::LOCAL_ONLY};
use dezky_shared::platform::{
    clock,
    redis::{RedisConfig, shared_connection},
};

/// Time for which local buckets are used after an error or timeout of Redis.
const FALLBACK: Duration = Duration::from_secs(3);
/// Maximum number of clients in memory. Beyond it, the longest idle ones are evicted.
const MAX_CLIENTS: usize = 10_000;

/// Shared buckets in Redis, with the fallback state.
#[derive(Debug, Clone)]
pub struct RateLimiter(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    script: LeaseScript,
    prefix: String,
    timeout: Duration,
    /// End of the fallback, in milliseconds of the boot clock.
    retry_at: AtomicU64,
    is_local: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl RateLimiter {
    /// A limiter with buckets below the configured prefix. `timeout` bounds each round trip. Connects on first use.
    pub fn new(config: &RedisConfig, timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            connection: shared_connection(config.client()?)?,
            script: LeaseScript::new(),
            prefix: config.prefix.clone(),
            timeout,
            retry_at: AtomicU64::new(0),
            is_local: AtomicBool::new(false),
        })))
    }

    /// A named limit.
    pub fn limit(&self, name: &'static str, limit: Limit) -> RateLimit {
        RateLimit {
            shared: self.clone(),
            name,
            limit,
            clients: Mutex::default(),
        }
    }

    /// Takes a batch from the bucket at `key`. `None` during the fallback.
    async fn take(&self, key: &str, limit: Limit) -> Option<TokenBatch> {
        let shared = &self.0;
        if millis(clock::boot_time()) < shared.retry_at.load(Ordering::Relaxed) {
            return None;
        }
        let connection = &mut shared.connection.clone();
        let result = timeout(shared.timeout, shared.script.take(connection, key, limit));
        if let Ok(Ok(batch)) = result.await {
            self.set_local(false);
            Some(batch)
        } else {
            let retry_at = millis(clock::boot_time() + FALLBACK);
            shared.retry_at.store(retry_at, Ordering::Relaxed);
            self.set_local(true);
            None
        }
    }

    /// Updates the gauge, and logs a change of the state.
    fn set_local(&self, is_local: bool) {
        if self.0.is_local.swap(is_local, Ordering::Relaxed) != is_local {
            gauge!(LOCAL_ONLY).set(u8::from(is_local));
            if is_local {
                tracing::warn!("Redis is unavailable; rate limits are local to this process");
            } else {
                tracing::info!("Redis is available again; rate limits are shared");
            }
        }
    }
}

/// A limit with its clients.
#[derive(Debug)]
pub struct RateLimit {
    shared: RateLimiter,
    name: &'static str,
    limit: Limit,
    clients: Mutex<HashMap<String, Arc<LocalBucket>>>,
}

impl RateLimit {
    /// Takes a token of `client`, or returns the time until the next one.
    pub async fn acquire(&self, client: &str) -> Result<(), Duration> {
        let bucket = self.bucket(client);
        if let Some(result) = bucket.spend() {
            return result;
        }
        let _guard = bucket.request_lock.lock().await;
        // A concurrent request may have fetched a batch.
        if let Some(result) = bucket.spend() {
            return result;
        }
        let key = format!("{}:rate:{}:{client}", self.shared.0.prefix, self.name);
        let batch = self.shared.take(&key, self.limit).await;
        bucket.receive(batch, self.limit)
    }

    fn bucket(&self, client: &str) -> Arc<LocalBucket> {
        let mut clients = self.clients();
        if let Some(bucket) = clients.get(client) {
            return bucket.clone();
        }
        if clients.len() >= MAX_CLIENTS {
            evict_idle(&mut clients);
        }
        clients.entry(client.to_owned()).or_default().clone()
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<String, Arc<LocalBucket>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Evicts the longest idle tenth of the clients. They lose at most a batch; during the fallback, they start with a full
/// bucket again.
fn evict_idle(clients: &mut HashMap<String, Arc<LocalBucket>>) {
    let used_at = clients.values().map(|bucket| bucket.state().used_at);
    let mut used_at: Vec<Duration> = used_at.collect();
    let tenth = used_at.len() / 10;
    let (_, since, _) = used_at.select_nth_unstable(tenth);
    clients.retain(|_, bucket| bucket.state().used_at > *since);
}

/// Local state of a client.
#[derive(Debug, Default)]
struct LocalBucket {
    state: Mutex<State>,
    /// Held while a batch is fetched (single flight).
    request_lock: AsyncMutex<()>,
}

/// Times are those of the boot clock.
#[derive(Debug, Default)]
struct State {
    tokens: u32,
    empty_until: Duration,
    /// Used during the fallback.
    local: Bucket,
    used_at: Duration,
}

impl LocalBucket {
    /// Spends a local token, or rejects while the bucket is known to be empty. `None` if a batch must be fetched.
    fn spend(&self) -> Option<Result<(), Duration>> {
        let now = clock::boot_time();
        let mut state = self.state();
        state.used_at = now;
        if state.tokens > 0 {
            state.tokens -= 1;
            return Some(Ok(()));
        }
        state.remaining_wait(now).map(Err)
    }

    /// Stores a fetched batch and spends one of its tokens. Without a batch, uses the local bucket.
    fn receive(&self, batch: Option<TokenBatch>, limit: Limit) -> Result<(), Duration> {
        let now = clock::boot_time();
        let mut state = self.state();
        let batch = batch.unwrap_or_else(|| state.local.take(limit, now));
        let Some(left) = batch.granted.checked_sub(1) else {
            state.empty_until = now + batch.wait;
            return Err(batch.wait);
        };
        state.tokens = left;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn remaining_wait(&self, now: Duration) -> Option<Duration> {
        let left = self.empty_until.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A limit without Redis.
    fn local_limit(limit: Limit) -> RateLimit {
        let config = RedisConfig {
            url: "redis://127.0.0.1:1/".to_owned(),
            prefix: "test".to_owned(),
        };
        let shared = RateLimiter::new(&config, Duration::from_secs(5)).unwrap();
        shared.limit("test", limit)
    }

    #[tokio::test]
    async fn without_redis_each_client_has_a_local_bucket() {
        let limit = local_limit(Limit {
            per_second: 0.001,
            burst: 20,
        });

        for _ in 0..20 {
            assert_eq!(limit.acquire("ada").await, Ok(()));
        }
        let wait = limit.acquire("ada").await.unwrap_err();

        assert!(wait > Duration::from_secs(990), "{wait:?}");
        assert_eq!(limit.acquire("bob").await, Ok(()));
    }

    #[tokio::test]
    async fn concurrent_requests_do_not_exceed_the_burst() {
        let limit = local_limit(Limit {
            per_second: 0.001,
            burst: 30,
        });

        let results = futures::future::join_all((0..100).map(|_| limit.acquire("ada"))).await;

        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 30);
    }

    #[tokio::test]
    async fn memory_is_bounded_and_active_clients_are_not_evicted() {
        let limit = local_limit(Limit {
            per_second: 0.001,
            burst: 1,
        });
        assert_eq!(limit.acquire("ada").await, Ok(()));

        for client in 0..2 * MAX_CLIENTS {
            assert_eq!(limit.acquire(&client.to_string()).await, Ok(()));
            if client % 1_000 == 0 {
                assert!(limit.acquire("ada").await.is_err(), "{client}");
            }
        }

        assert!(limit.clients().len() <= MAX_CLIENTS);
    }
}
