//! Schedule of faults: a pure function of the seed.
//!
//! Several tracks run concurrently: one for the processes, one for the stores, one for operators, and one per
//! upstream. The faults of a track are sequential. Each kind occurs once before any is repeated, so that a short run
//! contains all of them.

use std::{fmt, time::Duration};

use dezky_shared::upstream::Upstream;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// Approximate time of a fault and the pause after it.
const SLOT: Duration = Duration::from_secs(5);

/// Kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FaultKind {
    /// SIGKILL of an api process.
    ApiKilled,
    /// SIGSTOP and SIGCONT of an api process.
    ApiStopped,
    /// SIGKILL of a worker process.
    WorkerKilled,
    /// SIGSTOP of a worker process until its leases have expired, then SIGCONT.
    WorkerStopped,
    /// SIGKILL of MongoDB's primary.
    PrimaryKilled,
    /// All connections to MongoDB cut, those between its members included.
    MongoCut,
    /// All connections to MongoDB delayed.
    MongoSlow,
    /// `FLUSHALL` on Redis.
    RedisFlushed,
    /// SIGKILL of Redis.
    RedisKilled,
    /// All connections to Redis cut.
    RedisCut,
    /// All connections to Redis delayed.
    RedisSlow,
    /// An operator pauses an upstream.
    UpstreamPaused,
    /// An operator pauses a queue.
    QueuePaused,
    /// Fault of an upstream.
    Upstream(Upstream, UpstreamFault),
}

/// Kind of fault of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UpstreamFault {
    /// Connections refused.
    Down,
    /// Late response.
    SlowAnswer,
    /// Late effect.
    SlowEffect,
    /// Status 503.
    Unavailable,
    /// Status 429 with `Retry-After`.
    RateLimited,
    /// Connection closed, without an effect.
    Reset,
    /// Connection closed after the effect.
    AnswerLost,
    /// HTML page instead of JSON, after the effect.
    Html,
    /// Truncated JSON, after the effect.
    Truncated,
}

impl UpstreamFault {
    const ALL: [Self; 9] = [
        Self::Down,
        Self::SlowAnswer,
        Self::SlowEffect,
        Self::Unavailable,
        Self::RateLimited,
        Self::Reset,
        Self::AnswerLost,
        Self::Html,
        Self::Truncated,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::SlowAnswer => "late response",
            Self::SlowEffect => "late effect",
            Self::Unavailable => "503",
            Self::RateLimited => "429 with Retry-After",
            Self::Reset => "connection reset",
            Self::AnswerLost => "response lost after the effect",
            Self::Html => "HTML instead of JSON",
            Self::Truncated => "truncated JSON",
        }
    }
}

impl FaultKind {
    /// Faults of the processes.
    pub(super) const PROCESSES: [Self; 4] = [
        Self::ApiKilled,
        Self::ApiStopped,
        Self::WorkerKilled,
        Self::WorkerStopped,
    ];

    /// Faults of the stores.
    pub(super) const STORES: [Self; 7] = [
        Self::PrimaryKilled,
        Self::MongoCut,
        Self::MongoSlow,
        Self::RedisFlushed,
        Self::RedisKilled,
        Self::RedisCut,
        Self::RedisSlow,
    ];

    /// Actions of operators.
    pub(super) const OPERATORS: [Self; 2] = [Self::UpstreamPaused, Self::QueuePaused];

    /// Faults of an upstream.
    pub(super) fn of(upstream: Upstream) -> [Self; 9] {
        UpstreamFault::ALL.map(|fault| Self::Upstream(upstream, fault))
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ApiKilled => "api: SIGKILL",
            Self::ApiStopped => "api: SIGSTOP, SIGCONT",
            Self::WorkerKilled => "worker: SIGKILL",
            Self::WorkerStopped => "worker: SIGSTOP, SIGCONT",
            Self::PrimaryKilled => "MongoDB: SIGKILL of the primary",
            Self::MongoCut => "MongoDB: connections cut",
            Self::MongoSlow => "MongoDB: connections delayed",
            Self::RedisFlushed => "Redis: FLUSHALL",
            Self::RedisKilled => "Redis: SIGKILL",
            Self::RedisCut => "Redis: connections cut",
            Self::RedisSlow => "Redis: connections delayed",
            Self::UpstreamPaused => "operator: pause an upstream",
            Self::QueuePaused => "operator: pause a queue",
            Self::Upstream(upstream, fault) => {
                return write!(f, "{upstream}: {}", fault.name());
            }
        })
    }
}

/// A fault with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// Start, relative to the start of the run; later if the previous fault of the track was extended.
    pub at: Duration,
    /// Duration; extended if there is no hit by then.
    pub lasts: Duration,
    /// Kind of fault.
    pub fault: FaultKind,
    /// Selects the target among several: this number modulo their count.
    pub pick: usize,
}

/// All faults of a run, by track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// Faults of the api and the worker.
    pub processes: Vec<PlannedFault>,
    /// Faults of MongoDB and Redis.
    pub stores: Vec<PlannedFault>,
    /// Actions of operators.
    pub operators: Vec<PlannedFault>,
    /// Faults of each upstream.
    pub upstreams: Vec<(Upstream, Vec<PlannedFault>)>,
}

impl Schedule {
    /// Schedule for a seed and a length.
    pub fn new(seed: u64, length: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            processes: track(&FaultKind::PROCESSES, length, &mut random),
            stores: track(&FaultKind::STORES, length, &mut random),
            operators: track(&FaultKind::OPERATORS, length, &mut random),
            upstreams: Upstream::ALL
                .map(|upstream| {
                    (
                        upstream,
                        track(&FaultKind::of(upstream), length, &mut random),
                    )
                })
                .to_vec(),
        }
    }

    /// All faults, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = &PlannedFault> {
        let upstreams = self.upstreams.iter().flat_map(|(_, planned)| planned);
        let processes_and_stores = self.processes.iter().chain(&self.stores);
        processes_and_stores.chain(&self.operators).chain(upstreams)
    }
}

/// All `kinds` in random order, repeated as often as `length` allows.
fn track(kinds: &[FaultKind], length: Duration, random: &mut StdRng) -> Vec<PlannedFault> {
    let rounds = (length.as_secs_f64() / (SLOT * count(kinds.len())).as_secs_f64()).max(1.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a small positive number"
    )]
    let rounds = rounds as u32;
    let slot = length / (rounds * count(kinds.len()));
    let mut planned = Vec::new();
    for _ in 0..rounds {
        let mut order = kinds.to_vec();
        order.shuffle(random);
        for fault in order {
            let begins = slot * count(planned.len());
            planned.push(PlannedFault {
                at: begins + slot.mul_f64(random.random_range(0.05..0.2)),
                lasts: slot.mul_f64(random.random_range(0.25..0.5)),
                fault,
                pick: random.random_range(0..1_000),
            });
        }
    }
    planned
}

fn count(number: usize) -> u32 {
    u32::try_from(number).expect("a schedule is short")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_schedule_depends_on_the_seed_alone() {
        let minute = Duration::from_mins(1);

        assert_eq!(Schedule::new(7, minute), Schedule::new(7, minute));
        assert_ne!(Schedule::new(7, minute), Schedule::new(8, minute));
    }

    #[test]
    fn a_short_run_contains_every_kind_and_each_ends_before_the_run() {
        let length = Duration::from_secs(20);

        let schedule = Schedule::new(1, length);

        let kinds: BTreeSet<FaultKind> = schedule.all().map(|planned| planned.fault).collect();
        assert_eq!(kinds.len(), 4 + 7 + 2 + 3 * 9);
        assert!(
            schedule
                .all()
                .all(|planned| planned.at + planned.lasts < length)
        );
    }

    #[test]
    fn faults_of_a_track_do_not_overlap() {
        let schedule = Schedule::new(1, Duration::from_mins(10));

        for (_, track) in &schedule.upstreams {
            assert!(track.len() > 100);
            for pair in track.windows(2) {
                assert!(pair[0].at + pair[0].lasts < pair[1].at);
            }
        }
    }
}
