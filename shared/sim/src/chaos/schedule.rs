//! Schedule of faults: a pure function of the seed.
//!
//! Several tracks run concurrently: one for the processes, one for the stores, one for operators, one for large work,
//! one for documents of a future build, and one per upstream. The faults of a track are sequential. Each kind occurs
//! once before any is repeated, so that a short run contains all of them.

use std::time::Duration;

use dezky_shared::upstream::Upstream;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng, seq::SliceRandom as _};

use super::fault_kind::FaultKind;

/// Approximate time of a fault and the pause after it.
const SLOT: Duration = Duration::from_secs(5);
/// The same for documents of a future build, which accumulate.
const DOCUMENT_SLOT: Duration = Duration::from_secs(10);
/// The same for large work, which goes on for longer than any fault lasts.
const LARGE_WORK_SLOT: Duration = Duration::from_secs(30);

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
    /// Large work.
    pub large_work: Vec<PlannedFault>,
    /// Documents of a future build.
    pub documents: Vec<PlannedFault>,
    /// Faults of each upstream.
    pub upstreams: Vec<(Upstream, Vec<PlannedFault>)>,
}

impl Schedule {
    /// Schedule for a seed and a length.
    pub fn new(seed: u64, length: Duration) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut track = |kinds: &[FaultKind], slot| track(kinds, slot, length, &mut random);
        Self {
            processes: track(&FaultKind::PROCESSES, SLOT),
            stores: track(&FaultKind::STORES, SLOT),
            operators: track(&FaultKind::OPERATORS, SLOT),
            large_work: track(&FaultKind::LARGE_WORK, LARGE_WORK_SLOT),
            documents: track(&FaultKind::DOCUMENTS, DOCUMENT_SLOT),
            upstreams: Upstream::CALLED
                .map(|upstream| (upstream, track(&FaultKind::of(upstream), SLOT)))
                .to_vec(),
        }
    }

    /// All faults, in no particular order.
    pub fn all(&self) -> impl Iterator<Item = &PlannedFault> {
        let upstreams = self.upstreams.iter().flat_map(|(_, planned)| planned);
        let tracks = [
            &self.processes,
            &self.stores,
            &self.operators,
            &self.large_work,
            &self.documents,
        ];
        tracks.into_iter().flatten().chain(upstreams)
    }
}

/// All `kinds` in random order, repeated as often as `length` allows with one in each `slot`.
fn track(
    kinds: &[FaultKind],
    slot: Duration,
    length: Duration,
    random: &mut StdRng,
) -> Vec<PlannedFault> {
    let rounds = (length.as_secs_f64() / (slot * count(kinds.len())).as_secs_f64()).max(1.0);
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
        assert_eq!(kinds.len(), 5 + 8 + 2 + 2 + 10 + 4 * 9);
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
