//! Pace of claims: how often each job is claimed, and how much bulk work goes ahead of a job.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bson::{DateTime, Uuid};
use dezky_shared::platform::clock;

/// Lowest priority: the jobs of a fan-out.
const BULK: i32 = 2;
/// Maximum number of claims of one job within [`WINDOW`]. A step that is retried with a growing delay has about ten, and a
/// job has up to three steps.
const MAX_CLAIMS: usize = 60;
const WINDOW: Duration = Duration::from_secs(20);
/// Maximum number of violations kept.
const MAX_VIOLATIONS: usize = 20;

/// When jobs were enqueued and claimed.
#[derive(Debug, Default)]
pub(super) struct ClaimPace {
    /// Number of open bulk jobs.
    pub(super) open_bulk: usize,
    /// Jobs that were claimed again and again without a delay.
    pub(super) spinning: Vec<String>,
    bulk_claims: u64,
    jobs: HashMap<Uuid, JobPace>,
}

#[derive(Debug)]
struct JobPace {
    is_bulk: bool,
    is_open: bool,
    enqueued_at: DateTime,
    /// Number of claims of bulk jobs until then.
    bulk_claims_before: u64,
    first_wait: Option<FirstWait>,
    last_claims: VecDeque<DateTime>,
}

/// Wait of a job from its enqueueing to its first claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FirstWait {
    pub(super) time: Duration,
    /// Number of bulk jobs claimed in the meantime.
    pub(super) bulk_claims: u64,
}

impl ClaimPace {
    /// Records a new job.
    pub(super) fn enqueued(&mut self, id: Uuid, priority: Option<i32>, at: DateTime) {
        let job = JobPace {
            is_bulk: priority == Some(BULK),
            is_open: true,
            enqueued_at: at,
            bulk_claims_before: self.bulk_claims,
            first_wait: None,
            last_claims: VecDeque::new(),
        };
        self.open_bulk += usize::from(job.is_bulk);
        self.jobs.insert(id, job);
    }

    /// Records the claim of a job.
    pub(super) fn claimed(&mut self, id: Uuid, at: DateTime) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return;
        };
        job.first_wait.get_or_insert(FirstWait {
            time: clock::until(job.enqueued_at, at),
            bulk_claims: self.bulk_claims - job.bulk_claims_before,
        });
        self.bulk_claims += u64::from(job.is_bulk);
        job.last_claims.push_back(at);
        if job.last_claims.len() > MAX_CLAIMS
            && let Some(first) = job.last_claims.pop_front()
            && clock::until(first, at) < WINDOW
            && self.spinning.len() < MAX_VIOLATIONS
        {
            job.last_claims.clear();
            let violation = format!("job {id}: over {MAX_CLAIMS} claims within {WINDOW:?}");
            self.spinning.push(violation);
        }
    }

    /// Records the end of a job.
    pub(super) fn finished(&mut self, id: Uuid) {
        if let Some(job) = self.jobs.get_mut(&id).filter(|job| job.is_open) {
            job.is_open = false;
            self.open_bulk -= usize::from(job.is_bulk);
        }
    }

    /// The wait of a job for its first claim; `None` if it was never claimed.
    pub(super) fn first_wait(&self, id: Uuid) -> Option<FirstWait> {
        self.jobs.get(&id)?.first_wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: Uuid = Uuid::from_bytes([1; 16]);
    const BULK_JOB: Uuid = Uuid::from_bytes([2; 16]);

    fn at(millis: i64) -> DateTime {
        DateTime::from_millis(millis)
    }

    #[test]
    fn a_first_wait_has_a_time_and_the_number_of_bulk_jobs_that_went_ahead() {
        let mut pace = ClaimPace::default();
        pace.enqueued(BULK_JOB, Some(2), at(0));
        pace.enqueued(JOB, Some(1), at(100));
        pace.claimed(BULK_JOB, at(200));
        let open_bulk = pace.open_bulk;
        pace.finished(BULK_JOB);
        pace.claimed(JOB, at(400));
        pace.claimed(JOB, at(900));

        let expected = FirstWait {
            time: Duration::from_millis(300),
            bulk_claims: 1,
        };
        assert_eq!(pace.first_wait(JOB), Some(expected));
        assert_eq!((open_bulk, pace.open_bulk), (1, 0));
    }

    #[test]
    fn a_job_that_is_claimed_without_a_delay_spins() {
        let spinning = |delay: i64| {
            let mut pace = ClaimPace::default();
            pace.enqueued(JOB, Some(1), at(0));
            for n in 0..100 {
                pace.claimed(JOB, at(n * delay));
            }
            pace.spinning.len()
        };

        assert_eq!(spinning(400), 0);
        assert_eq!(spinning(100), 1);
    }
}
