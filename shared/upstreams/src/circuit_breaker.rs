//! When an upstream may be spoken to: a budget of steps, the time it asked us to wait, and a circuit that opens while
//! it is away. All workers share this state in Redis and go by its clock; while Redis is away, each keeps its own.
//!
//! - The **budget** hands out instants (GCRA, the generic cell rate algorithm): a step either goes at once or is told
//!   when its turn is, and that turn is its own. Turns are given for the next few seconds only; whoever finds them
//!   all taken asks again then, so that a thousand steps at once do not stand before all that come later.
//! - A **floor** is what the upstream asked for with `Retry-After`: nobody goes before it, and those who wait do not
//!   all go when it is over.
//! - The **circuit** opens after some failures in a row. While it is open, one step at a time tries, at intervals that
//!   double; the first that is answered closes it.

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
    upstream::Upstream,
};

/// For how long a Redis that did not answer is not asked again: waiting for it would hold up every step.
const AWAY: Duration = Duration::from_secs(1);
/// How far ahead turns are given, counted from the end of a floor.
pub const RESERVATION_HORIZON: Duration = Duration::from_secs(5);

/// How many steps an upstream is asked to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateBudget {
    /// Steps a second, over time. More than 0.
    pub per_second: f64,
    /// Steps that may go at once after a pause.
    pub burst: u32,
}

impl RateBudget {
    /// The time that one step takes out of the budget.
    fn interval(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.per_second)
    }

    /// How far ahead of its time a step may go.
    fn tolerance(self) -> Duration {
        self.interval().mul_f64(f64::from(self.burst.max(1) - 1))
    }
}

/// When circuits open, and when they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CircuitTimes {
    /// So many failures in a row open it.
    pub failures: u32,
    /// The time until the first step tries.
    pub first_probe: Duration,
    /// The longest time between two that try.
    pub last_probe: Duration,
}

/// Whether a step may speak to an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Allow,
    /// Now, as the one that tries whether the upstream is back.
    Probe,
    /// After this time, at its own turn.
    Reserved(Duration),
    /// After about this time, when it may ask again: the turns until then are taken.
    Saturated(Duration),
    /// Not while the circuit is open, which somebody tries after this time.
    Open(Duration),
}

/// What a step learned about an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallResult {
    /// It answered.
    Answered,
    /// It did not, or could not serve us.
    Failed,
    /// It kept a whole attempt waiting.
    TimedOut,
    /// It wants to be left alone for this long.
    SlowDown(Duration),
}

/// What news did to a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transition {
    /// Nothing.
    None,
    /// It is open now.
    Opened,
    /// It is closed again.
    Closed,
}

/// How an upstream stands at this moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BreakerSnapshot {
    /// Failures in a row.
    pub failures: u32,
    /// For how long the circuit has been open; nothing while it is closed.
    pub open_for: Option<Duration>,
    /// When the next step tries, while it is open.
    pub probe_in: Option<Duration>,
    /// How long nobody may go, because the upstream asked for it.
    pub retry_after: Option<Duration>,
    /// How long a step that asks now would have to wait for its turn.
    pub turn_in: Option<Duration>,
}

/// The state of all upstreams, shared by all workers.
pub struct CircuitBreakers {
    connection: ConnectionManager,
    scripts: Scripts,
    prefix: String,
    alone: Mutex<BTreeMap<Upstream, LocalBreaker>>,
    /// Boot time in milliseconds.
    ask_again_at: AtomicU64,
}

impl std::fmt::Debug for CircuitBreakers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Circuits")
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

impl CircuitBreakers {
    /// The circuits below the configured prefix. Connects only when first used.
    pub fn new(config: &RedisConfig) -> anyhow::Result<Self> {
        Ok(Self {
            connection: shared_connection(config.client()?)?,
            scripts: Scripts::new(),
            prefix: config.prefix.clone(),
            alone: Mutex::default(),
            ask_again_at: AtomicU64::new(0),
        })
    }

    /// Asks for a step. `has_reservation` says that it comes at the turn it was given.
    pub async fn admit(
        &self,
        upstream: Upstream,
        budget: RateBudget,
        has_reservation: bool,
    ) -> Admission {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts
                .admit(connection, &key, budget, has_reservation)
                .await
        };
        match self.ask(shared).await {
            Some(admission) => admission,
            None => self.local_fallback(upstream, |local, now| {
                local.admit(now, budget, has_reservation)
            }),
        }
    }

    /// Tells what a step learned. `probing` says that it was the one that tried.
    pub async fn record(
        &self,
        upstream: Upstream,
        times: CircuitTimes,
        probing: bool,
        news: CallResult,
    ) -> Transition {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts
                .report(connection, &key, times, probing, news)
                .await
        };
        match self.ask(shared).await {
            Some(effect) => effect,
            None => self.local_fallback(upstream, |local, now| {
                local.report(now, times, probing, news)
            }),
        }
    }

    /// Has the next step try, if the circuit is open.
    pub async fn force_half_open(&self, upstream: Upstream) {
        let shared = async {
            let key = self.key(upstream);
            self.scripts
                .probe_now(&mut self.connection.clone(), &key)
                .await
        };
        if self.ask(shared).await.is_none() {
            self.local_fallback(upstream, LocalBreaker::probe_now);
        }
    }

    /// Forgets until when the upstream wanted to be left alone, and has the next step try if the circuit is open: once
    /// for what was asked at `asked_at`, however often it is told.
    pub async fn resume(&self, upstream: Upstream, asked_at: DateTime) {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts.resume(connection, &key, asked_at).await
        };
        if self.ask(shared).await.is_none() {
            self.local_fallback(upstream, |local, now| local.resume(now, asked_at));
        }
    }

    /// How the upstream stands.
    pub async fn snapshot(&self, upstream: Upstream, budget: RateBudget) -> BreakerSnapshot {
        let shared = async {
            let key = self.key(upstream);
            let connection = &mut self.connection.clone();
            self.scripts.look(connection, &key, budget).await
        };
        match self.ask(shared).await {
            Some(standing) => standing,
            None => self.local_fallback(upstream, |local, now| local.look(now, budget)),
        }
    }

    fn key(&self, upstream: Upstream) -> String {
        format!("{}:upstream:{upstream}", self.prefix)
    }

    /// What Redis answers; `None` while it is away.
    async fn ask<T>(&self, question: impl Future<Output = Result<T, RedisError>>) -> Option<T> {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        if millis(clock::boot_time()) < self.ask_again_at.load(Ordering::Relaxed) {
            return None;
        }
        match question.await {
            Ok(answer) => Some(answer),
            Err(error) => {
                tracing::debug!(
                    error = error.category(),
                    "Redis is away; judging upstreams alone"
                );
                let again = millis(clock::boot_time() + AWAY);
                self.ask_again_at.store(again, Ordering::Relaxed);
                None
            }
        }
    }

    fn local_fallback<T>(
        &self,
        upstream: Upstream,
        act: impl FnOnce(&mut LocalBreaker, Duration) -> T,
    ) -> T {
        let mut alone = self.alone.lock().unwrap_or_else(PoisonError::into_inner);
        act(alone.entry(upstream).or_default(), clock::boot_time())
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
    /// More than the upstreams bear for long, less than what brings one down.
    fn default() -> Self {
        Self {
            per_second: 50.0,
            burst: 100,
        }
    }
}
