//! Circuit breaker and rate budget of each upstream. All workers share the state in Redis and use its clock; while
//! Redis is unavailable, each process falls back to a local state.
//!
//! - The **rate budget** is a GCRA (generic cell rate algorithm) that hands out reservations: a step is admitted at
//!   once or reserves the next free slot. Slots are reserved only a few seconds ahead, and less far the less urgent the
//!   step is; once they are taken, a step queues for one. Urgent work therefore finds a slot within seconds, however
//!   many steps wait. While a lane has a queue, new steps of it and of the less urgent lanes join the queue.
//! - The **floor** is the end of the upstream's `Retry-After`: no step is admitted before it, and steps that waited for
//!   it get no burst afterwards.
//! - The **circuit breaker** opens after consecutive failures. While open, it admits one half-open probe at a time, at
//!   intervals that double; the first successful probe closes it.

#[cfg(test)]
mod agreement;
mod local;
mod script;

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bson::DateTime;
use redis::{RedisError, aio::ConnectionManager};

use self::{local::LocalBreaker, script::Scripts};
use dezky_shared::{
    platform::{
        clock,
        redis::{RedisConfig, shared_connection},
    },
    queue::priority::Priority,
    upstream::Upstream,
};

/// Time for which Redis is not asked again after a failure: its timeout would delay every step.
const REDIS_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Horizon up to which the most urgent steps reserve slots, counted from the floor.
pub const RESERVATION_HORIZON: Duration = Duration::from_secs(5);

/// Horizon up to which steps of this priority reserve slots, counted from the floor. The rest up to the horizon of a
/// more urgent priority is kept for it.
const fn horizon(priority: Priority) -> Duration {
    match priority {
        Priority::Security => RESERVATION_HORIZON,
        Priority::Interactive => Duration::from_secs(4),
        Priority::Bulk => Duration::from_secs(2),
    }
}

/// Lifetime of a queue's mark: if the leader that serves the queue is gone, new steps take slots themselves.
const QUEUE_MARK_TTL: Duration = Duration::from_secs(5);

/// The most slots reserved by one call: Redis serves no other client meanwhile.
const MAX_RESERVED: usize = 1_000;

/// Rate budget of an upstream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateBudget {
    /// Sustained rate in steps per second. Greater than 0.
    pub per_second: f64,
    /// Number of steps admitted at once after an idle period.
    pub burst: u32,
}

impl RateBudget {
    /// The number of steps that it admits in this time, rounded up.
    pub fn steps_in(self, time: Duration) -> usize {
        let interval = self.interval().as_micros().max(1);
        usize::try_from(time.as_micros().div_ceil(interval)).unwrap_or(usize::MAX)
    }

    /// Emission interval of the GCRA: the budget one step consumes, in whole microseconds, as the scripts count.
    fn interval(self) -> Duration {
        Duration::from_micros(script::micros(Duration::from_secs_f64(
            1.0 / self.per_second,
        )))
    }

    /// Burst tolerance of the GCRA: how far the theoretical arrival time may be ahead.
    fn tolerance(self) -> Duration {
        self.interval() * (self.burst.max(1) - 1)
    }
}

/// Thresholds and intervals of a circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitTimes {
    /// Consecutive failures that open it.
    pub failures: u32,
    /// Time until the first half-open probe.
    pub first_probe: Duration,
    /// Maximum time between two half-open probes.
    pub last_probe: Duration,
}

/// Decision of the circuit breaker and the rate budget about a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerDecision {
    /// Call now.
    Allow,
    /// Call now, as the half-open probe.
    Probe,
    /// Wait for this time: the slot is reserved for the step.
    Reserved(Duration),
    /// Queue for a slot: all slots of its priority are reserved, or a queue was there before. The first slot is free after
    /// this time at the earliest.
    Saturated(Duration),
    /// Circuit open; the next half-open probe is due after this time.
    Open(Duration),
}

/// Result of a call to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// The upstream responded.
    Answered,
    /// The upstream did not respond, or could not serve the request.
    Failed,
    /// The upstream responded to no call of a whole attempt, whose time ran out.
    TimedOut,
    /// The upstream asked to wait (`Retry-After`).
    SlowDown(Duration),
}

/// Transition of the circuit breaker caused by a call result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// No transition.
    None,
    /// Opened.
    Opened,
    /// Closed.
    Closed,
}

/// Snapshot of a circuit breaker and rate budget.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// Consecutive failures.
    pub failures: u32,
    /// Time since the circuit opened; `None` while it is closed.
    pub open_for: Option<Duration>,
    /// Time until the next half-open probe, while open.
    pub probe_in: Option<Duration>,
    /// Remaining `Retry-After`.
    pub retry_after: Option<Duration>,
    /// Wait until the rate budget admits another step.
    pub turn_in: Option<Duration>,
}

/// Circuit breakers and rate budgets of all upstreams, shared by all workers.
pub struct CircuitBreakers {
    connection: ConnectionManager,
    scripts: Scripts,
    prefix: String,
    local: Mutex<BTreeMap<Upstream, LocalBreaker>>,
    /// Boot time in milliseconds before which Redis is not asked.
    retry_at: AtomicU64,
}

impl std::fmt::Debug for CircuitBreakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CircuitBreakers")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl CircuitBreakers {
    /// The circuit breakers below the configured prefix. Connects on first use.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        Ok(Self {
            connection: shared_connection(config.client()?)?,
            scripts: Scripts::new(),
            prefix: config.prefix.clone(),
            local: Mutex::default(),
            retry_at: AtomicU64::new(0),
        })
    }

    /// Requests admission of a step. `has_reservation` is set when the step returns at its reserved slot.
    pub async fn admit(
        &self,
        upstream: Upstream,
        budget: RateBudget,
        has_reservation: bool,
        priority: Priority,
    ) -> BreakerDecision {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts
                .admit(connection, &key, budget, has_reservation, priority)
                .await
        };
        match self.try_redis(shared).await {
            Some(admission) => admission,
            None => self.local_fallback(upstream, |local, now| {
                local.admit(now, budget, has_reservation, priority)
            }),
        }
    }

    /// Reserves at most `count` slots for queued steps of this priority, and returns the wait for each, shortest first.
    /// None while the circuit is open; then one wait of zero once its half-open probe is due, which is no reservation.
    pub async fn reserve(
        &self,
        upstream: Upstream,
        budget: RateBudget,
        priority: Priority,
        count: usize,
    ) -> Vec<Duration> {
        let count = count.min(MAX_RESERVED);
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts
                .reserve(connection, &key, budget, priority, count)
                .await
        };
        match self.try_redis(shared).await {
            Some(waits) => waits,
            None => self.local_fallback(upstream, |local, now| {
                local.reserve(now, budget, priority, count)
            }),
        }
    }

    /// Marks `lane` as the most urgent one with a queue, or all queues as empty. To be repeated every few seconds.
    pub async fn mark_queue(&self, upstream: Upstream, lane: Option<Priority>) {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts.mark_queue(connection, &key, lane).await
        };
        if self.try_redis(shared).await.is_none() {
            self.local_fallback(upstream, |local, now| local.mark_queue(now, lane));
        }
    }

    /// Records the result of a call. `probing` is set if the call was the half-open probe.
    pub async fn record(
        &self,
        upstream: Upstream,
        times: CircuitTimes,
        probing: bool,
        result: CallResult,
    ) -> Transition {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts
                .record(connection, &key, times, probing, result)
                .await
        };
        match self.try_redis(shared).await {
            Some(transition) => transition,
            None => self.local_fallback(upstream, |local, now| {
                local.record(now, times, probing, result)
            }),
        }
    }

    /// Forces a half-open probe: the next step probes, if the circuit is open.
    pub async fn force_half_open(&self, upstream: Upstream) {
        let shared = async {
            let key = self.key(upstream);
            self.scripts
                .force_half_open(&mut self.connection.clone(), &key)
                .await
        };
        if self.try_redis(shared).await.is_none() {
            self.local_fallback(upstream, LocalBreaker::force_half_open);
        }
    }

    /// Clears the floor and the reservations, and forces a half-open probe. Idempotent for each `requested_at`.
    pub async fn resume(&self, upstream: Upstream, requested_at: DateTime) {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts.resume(connection, &key, requested_at).await
        };
        if self.try_redis(shared).await.is_none() {
            self.local_fallback(upstream, |local, now| local.resume(now, requested_at));
        }
    }

    /// Snapshot of the upstream's state.
    pub async fn snapshot(&self, upstream: Upstream, budget: RateBudget) -> BreakerSnapshot {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts.snapshot(connection, &key, budget).await
        };
        match self.try_redis(shared).await {
            Some(snapshot) => snapshot,
            None => self.local_fallback(upstream, |local, now| local.snapshot(now, budget)),
        }
    }

    fn key(&self, upstream: Upstream) -> String {
        format!("{}:upstream:{upstream}", self.prefix)
    }

    /// Result of a Redis operation; `None` while Redis is unavailable.
    async fn try_redis<T>(
        &self,
        operation: impl Future<Output = Result<T, RedisError>>,
    ) -> Option<T> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if millis(clock::boot_time()) < self.retry_at.load(Ordering::Relaxed) {
            return None;
        }
        match operation.await {
            Ok(value) => Some(value),
            Err(error) => {
                tracing::debug!(
                    error = error.category(),
                    "Redis is unavailable; using the local circuit breakers"
                );
                let retry_at = millis(clock::boot_time() + REDIS_RETRY_DELAY);
                self.retry_at.store(retry_at, Ordering::Relaxed);
                None
            }
        }
    }

    fn local_fallback<T>(
        &self,
        upstream: Upstream,
        operation: impl FnOnce(&mut LocalBreaker, Duration) -> T,
    ) -> T {
        let mut breakers = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        operation(breakers.entry(upstream).or_default(), clock::boot_time())
    }
}

impl Default for CircuitTimes {
    fn default() -> Self {
        Self {
            failures: 5,
            first_probe: Duration::from_secs(15),
            last_probe: Duration::from_mins(2),
        }
    }
}

impl Default for RateBudget {
    /// Above the upstreams' sustained load, below their overload.
    fn default() -> Self {
        Self {
            per_second: 50.0,
            burst: 100,
        }
    }
}
