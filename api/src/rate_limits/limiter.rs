//! How much somebody may ask for: a token bucket for each of them, which all processes share in Redis.
//!
//! A process takes tokens out of the shared bucket in batches of a tenth of it, and spends them one by one: most
//! requests ask nobody. So what all processes let through is exact but for one batch for each of them, which it may
//! hold back or spend late. Somebody whose bucket is empty is refused without a question until the next token is due.
//!
//! Redis may be away, or slow. Then each process counts by itself for a while, beginning with full buckets.

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

use self::{
    bucket::{Bucket, TokenBatch},
    script::LeaseScript,
};
use dezky_shared::platform::{
    clock,
    redis::{RedisConfig, shared_connection},
};

/// Whether limits are counted by this process alone: 0 or 1.
pub const LOCAL_ONLY: &str = "dezky_rate_limits_alone";
/// For how long a Redis that did not answer in time is not asked again.
const AWAY: Duration = Duration::from_secs(3);
/// The most whose tokens are remembered; beyond it, those go who asked for nothing for longest.
const ACCOUNTS: usize = 10_000;

/// How much one may ask for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Over time, in a second. More than 0.
    pub per_second: f64,
    /// At once, after a pause. At least 1.
    pub burst: u32,
}

impl Limit {
    /// How many tokens a process takes at a time.
    fn batch(self) -> u32 {
        (self.burst / 10).max(1)
    }
}

/// The buckets in Redis, and what is known about whether it answers.
#[derive(Debug, Clone)]
pub struct RateLimiter(Arc<Inner>);

struct Inner {
    connection: ConnectionManager,
    script: LeaseScript,
    prefix: String,
    timeout: Duration,
    /// Boot time in milliseconds.
    ask_again_at: AtomicU64,
    alone: AtomicBool,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inner")
            .field("prefix", &self.prefix)
            .field("patience", &self.timeout)
            .finish_non_exhaustive()
    }
}

impl RateLimiter {
    /// The buckets below the configured prefix, for which a request waits no longer than `patience`. Connects only
    /// when first used.
    pub fn new(config: &RedisConfig, patience: Duration) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            connection: shared_connection(config.client()?)?,
            script: LeaseScript::new(),
            prefix: config.prefix.clone(),
            timeout: patience,
            ask_again_at: AtomicU64::new(0),
            alone: AtomicBool::new(false),
        })))
    }

    /// A limit of this name.
    pub fn limit(&self, name: &'static str, limit: Limit) -> RateLimit {
        RateLimit {
            shared: self.clone(),
            name,
            limit,
            accounts: Mutex::default(),
        }
    }

    /// A batch out of the bucket at `key`; `None` while Redis is away.
    async fn lease(&self, key: &str, limit: Limit) -> Option<TokenBatch> {
        let shared = &self.0;
        if millis(clock::boot_time()) < shared.ask_again_at.load(Ordering::Relaxed) {
            return None;
        }
        let connection = &mut shared.connection.clone();
        let asked = timeout(shared.timeout, shared.script.lease(connection, key, limit));
        if let Ok(Ok(lease)) = asked.await {
            self.note_alone(false);
            Some(lease)
        } else {
            let again = millis(clock::boot_time() + AWAY);
            shared.ask_again_at.store(again, Ordering::Relaxed);
            self.note_alone(true);
            None
        }
    }

    /// Said once, when it changes.
    fn note_alone(&self, alone: bool) {
        if self.0.alone.swap(alone, Ordering::Relaxed) != alone {
            gauge!(LOCAL_ONLY).set(u8::from(alone));
            if alone {
                tracing::warn!("Redis does not answer in time; counting requests alone");
            } else {
                tracing::info!("Redis answers again; counting requests together");
            }
        }
    }
}

/// One limit, for everybody it is kept for.
#[derive(Debug)]
pub struct RateLimit {
    shared: RateLimiter,
    name: &'static str,
    limit: Limit,
    accounts: Mutex<HashMap<String, Arc<LocalBucket>>>,
}

impl RateLimit {
    /// Takes a token of `who`'s, or says after what time there is one.
    pub async fn acquire(&self, who: &str) -> Result<(), Duration> {
        let account = self.account(who);
        if let Some(answer) = account.spend() {
            return answer;
        }
        let _asking = account.asking.lock().await;
        // Whoever asked in the meantime may have brought enough for all.
        if let Some(answer) = account.spend() {
            return answer;
        }
        let key = format!("{}:rate:{}:{who}", self.shared.0.prefix, self.name);
        let lease = self.shared.lease(&key, self.limit).await;
        account.receive(lease, self.limit)
    }

    fn account(&self, who: &str) -> Arc<LocalBucket> {
        let mut accounts = self.accounts();
        if let Some(account) = accounts.get(who) {
            return account.clone();
        }
        if accounts.len() >= ACCOUNTS {
            evict_idle(&mut accounts);
        }
        accounts.entry(who.to_owned()).or_default().clone()
    }

    fn accounts(&self) -> MutexGuard<'_, HashMap<String, Arc<LocalBucket>>> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets those who asked for nothing for longest: a tenth of them, so that it is rarely done. What they lose is a
/// batch; while Redis is away, they begin anew.
fn evict_idle(accounts: &mut HashMap<String, Arc<LocalBucket>>) {
    let used_at = accounts.values().map(|account| account.state().used_at);
    let mut used_at: Vec<Duration> = used_at.collect();
    let tenth = used_at.len() / 10;
    let (_, since, _) = used_at.select_nth_unstable(tenth);
    accounts.retain(|_, account| account.state().used_at > *since);
}

/// What this process holds for somebody.
#[derive(Debug, Default)]
struct LocalBucket {
    state: Mutex<State>,
    /// Held by the one who asks for more.
    asking: AsyncMutex<()>,
}

/// Times are of the boot clock.
#[derive(Debug, Default)]
struct State {
    tokens: u32,
    refused_until: Duration,
    /// Used while Redis is away.
    alone: Bucket,
    used_at: Duration,
}

impl LocalBucket {
    /// Spends a token that is at hand. Nothing when one has to ask.
    fn spend(&self) -> Option<Result<(), Duration>> {
        let now = clock::boot_time();
        let mut state = self.state();
        state.used_at = now;
        if state.tokens > 0 {
            state.tokens -= 1;
            return Some(Ok(()));
        }
        state.refused_for(now).map(Err)
    }

    /// Spends a token of what was leased, if anything was.
    fn receive(&self, lease: Option<TokenBatch>, limit: Limit) -> Result<(), Duration> {
        let now = clock::boot_time();
        let mut state = self.state();
        let lease = lease.unwrap_or_else(|| state.alone.lease(limit, now));
        let Some(left) = lease.granted.checked_sub(1) else {
            state.refused_until = now + lease.wait;
            return Err(lease.wait);
        };
        state.tokens = left;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn refused_for(&self, now: Duration) -> Option<Duration> {
        let left = self.refused_until.saturating_sub(now);
        (!left.is_zero()).then_some(left)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No Redis is there.
    fn alone(limit: Limit) -> RateLimit {
        let config = RedisConfig {
            url: "redis://127.0.0.1:1/".to_owned(),
            prefix: "test".to_owned(),
        };
        let shared = RateLimiter::new(&config, Duration::from_secs(5)).unwrap();
        shared.limit("test", limit)
    }

    #[tokio::test]
    async fn without_redis_a_process_counts_alone_and_everybody_for_themselves() {
        let limit = alone(Limit {
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
    async fn many_at_once_take_no_more_than_there_is() {
        let limit = alone(Limit {
            per_second: 0.001,
            burst: 30,
        });

        let asked = futures::future::join_all((0..100).map(|_| limit.acquire("ada"))).await;

        assert_eq!(asked.iter().filter(|answer| answer.is_ok()).count(), 30);
    }

    #[tokio::test]
    async fn what_is_remembered_stays_within_bounds_and_those_who_keep_asking_are_not_forgotten() {
        let limit = alone(Limit {
            per_second: 0.001,
            burst: 1,
        });
        assert_eq!(limit.acquire("ada").await, Ok(()));

        for who in 0..2 * ACCOUNTS {
            assert_eq!(limit.acquire(&who.to_string()).await, Ok(()));
            if who % 1_000 == 0 {
                assert!(limit.acquire("ada").await.is_err(), "{who}");
            }
        }

        assert!(limit.accounts().len() <= ACCOUNTS);
    }
}
