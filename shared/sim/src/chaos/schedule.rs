//! What goes wrong, and when: a pure function of the seed.
//!
//! Several tracks run side by side: one for the processes, one for the stores, one for operators, one for each upstream. On each track one
//! mishap follows another, every kind once before any comes again, so that also a short run has all of them.

use std::{fmt, time::Duration};

use dezky_shared::upstream::Upstream;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

/// The time that one mishap and the calm after it take, about.
const PACE: Duration = Duration::from_secs(5);

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mishap {
    /// An api process is killed.
    ApiKilled,
    /// An api process stands still, and goes on.
    ApiStopped,
    /// A worker process is killed.
    WorkerKilled,
    /// A worker process stands still until its leases are over, and goes on.
    WorkerStopped,
    /// The primary of MongoDB is killed.
    PrimaryKilled,
    /// All connections to MongoDB are cut, those of its members to each other too.
    MongoCut,
    /// All connections to MongoDB are slow.
    MongoSlow,
    /// Redis forgets everything.
    RedisFlushed,
    /// Redis is killed.
    RedisKilled,
    /// All connections to Redis are cut.
    RedisCut,
    /// All connections to Redis are slow.
    RedisSlow,
    /// An operator pauses work with an upstream.
    UpstreamPaused,
    /// An operator pauses a queue.
    QueuePaused,
    /// An upstream misbehaves.
    Upstream(Upstream, Trouble),
}

/// How an upstream misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trouble {
    /// It refuses connections.
    Down,
    /// It answers late.
    SlowAnswer,
    /// It does late what it is asked for.
    SlowEffect,
    /// It answers 503.
    Unavailable,
    /// It answers 429, with `Retry-After`.
    RateLimited,
    /// It ends connections and does nothing.
    Reset,
    /// It does what it is asked for, and ends the connection.
    AnswerLost,
    /// It does what it is asked for, and answers with a page for people.
    Html,
    /// It does what it is asked for, and its answer breaks off.
    Truncated,
}

impl Trouble {
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
            Self::SlowAnswer => "answers late",
            Self::SlowEffect => "acts late",
            Self::Unavailable => "503",
            Self::RateLimited => "429 with Retry-After",
            Self::Reset => "reset",
            Self::AnswerLost => "answer lost after the effect",
            Self::Html => "answers with HTML",
            Self::Truncated => "answers with half of the JSON",
        }
    }
}

impl Mishap {
    /// What can happen to the processes.
    pub(super) const PROCESSES: [Self; 4] = [
        Self::ApiKilled,
        Self::ApiStopped,
        Self::WorkerKilled,
        Self::WorkerStopped,
    ];

    /// What can happen to the stores.
    pub(super) const STORES: [Self; 7] = [
        Self::PrimaryKilled,
        Self::MongoCut,
        Self::MongoSlow,
        Self::RedisFlushed,
        Self::RedisKilled,
        Self::RedisCut,
        Self::RedisSlow,
    ];

    /// What operators do.
    pub(super) const OPERATORS: [Self; 2] = [Self::UpstreamPaused, Self::QueuePaused];

    /// What can happen to an upstream.
    pub(super) fn of(upstream: Upstream) -> [Self; 9] {
        Trouble::ALL.map(|trouble| Self::Upstream(upstream, trouble))
    }
}

impl fmt::Display for Mishap {
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
            Self::UpstreamPaused => "operator: pauses an upstream",
            Self::QueuePaused => "operator: pauses a queue",
            Self::Upstream(upstream, trouble) => {
                return write!(f, "{upstream}: {}", trouble.name());
            }
        })
    }
}

/// A mishap at its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Planned {
    /// When it begins, from the start of the run; later if the one before it took longer to hit something.
    pub at: Duration,
    /// How long it lasts; longer if it has hit nothing by then.
    pub lasts: Duration,
    /// What happens.
    pub mishap: Mishap,
    /// Which of several is hit: this number, modulo how many there are.
    pub pick: usize,
}

/// Everything that will go wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    /// With the api and the worker.
    pub processes: Vec<Planned>,
    /// With MongoDB and Redis.
    pub stores: Vec<Planned>,
    /// By operators.
    pub operators: Vec<Planned>,
    /// With each upstream.
    pub upstreams: Vec<(Upstream, Vec<Planned>)>,
}

impl Schedule {
    /// The schedule of this seed for a run of this length.
    pub fn new(seed: u64, length: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        Self {
            processes: track(&Mishap::PROCESSES, length, &mut random),
            stores: track(&Mishap::STORES, length, &mut random),
            operators: track(&Mishap::OPERATORS, length, &mut random),
            upstreams: Upstream::ALL
                .map(|upstream| (upstream, track(&Mishap::of(upstream), length, &mut random)))
                .to_vec(),
        }
    }

    /// All of it, in no order.
    pub fn all(&self) -> impl Iterator<Item = &Planned> {
        let upstreams = self.upstreams.iter().flat_map(|(_, planned)| planned);
        let ours = self.processes.iter().chain(&self.stores);
        ours.chain(&self.operators).chain(upstreams)
    }
}

/// All of `kinds`, in a random order, and then again as long as there is time.
fn track(kinds: &[Mishap], length: Duration, random: &mut StdRng) -> Vec<Planned> {
    let rounds = (length.as_secs_f64() / (PACE * count(kinds.len())).as_secs_f64()).max(1.0);
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
        for mishap in order {
            let begins = slot * count(planned.len());
            planned.push(Planned {
                at: begins + slot.mul_f64(random.random_range(0.05..0.2)),
                lasts: slot.mul_f64(random.random_range(0.25..0.5)),
                mishap,
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
    fn the_same_seed_makes_the_same_schedule_and_another_one_another() {
        let minute = Duration::from_mins(1);

        assert_eq!(Schedule::new(7, minute), Schedule::new(7, minute));
        assert_ne!(Schedule::new(7, minute), Schedule::new(8, minute));
    }

    #[test]
    fn every_kind_happens_in_a_short_run_and_ends_before_the_run_does() {
        let length = Duration::from_secs(20);

        let schedule = Schedule::new(1, length);

        let kinds: BTreeSet<Mishap> = schedule.all().map(|planned| planned.mishap).collect();
        assert_eq!(kinds.len(), 4 + 7 + 2 + 3 * 9);
        assert!(
            schedule
                .all()
                .all(|planned| planned.at + planned.lasts < length)
        );
    }

    #[test]
    fn on_a_track_one_mishap_is_over_before_the_next_begins() {
        let schedule = Schedule::new(1, Duration::from_mins(10));

        for (_, track) in &schedule.upstreams {
            assert!(track.len() > 100);
            for pair in track.windows(2) {
                assert!(pair[0].at + pair[0].lasts < pair[1].at);
            }
        }
    }
}
