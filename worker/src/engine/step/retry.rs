//! The retry decision for a failed step, as a pure function.

use std::time::Duration;

use dezky_shared::queue::{
    error_code::{ErrorCode, RetryPolicy},
    job::{Job, StepState},
};

use crate::{engine::EngineTimings, retry_delay::delay, steps::StepFailure};

/// Decision after a step's failure.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RetryDecision {
    pub(super) state: StepState,
    /// The delay of the next attempt; `None` if the failure is permanent.
    pub(super) delay: Option<Duration>,
    /// Whether the failure is charged to the job's attempts.
    pub(super) charged: bool,
    /// Whether the step left a write in doubt.
    pub(super) in_doubt: bool,
}

/// Decides when a step is retried after `failures` in a row. `chance` is uniform over `0.0..1.0`.
pub(super) fn decide_retry(
    times: &EngineTimings,
    job: &Job,
    failures: i32,
    failure: &StepFailure,
    chance: f64,
) -> RetryDecision {
    let policy = failure.code.retry_policy();
    let is_in_doubt = failure.code == ErrorCode::UpstreamAnswerLost;
    // The in-doubt write of another job is not charged to this one.
    let waited = is_in_doubt && failure.retry_after.is_some();
    let charged = policy == RetryPolicy::Counted && !waited && !failure.made_progress;
    let exhausted = charged && job.max_attempts.is_some_and(|most| job.attempt >= most);
    let delay = match policy {
        RetryPolicy::Never => None,
        _ if exhausted => None,
        RetryPolicy::AfterHold => {
            let hold = failure.retry_after.unwrap_or(times.hold_backoff);
            Some(hold + (times.hold_backoff / 10).mul_f64(chance))
        }
        RetryPolicy::Counted | RetryPolicy::Free => {
            let floor = match failure.code {
                ErrorCode::UpstreamIdentityUnavailable => times.identity_wait,
                ErrorCode::UpstreamAnswerLost if !waited => times.in_doubt_wait,
                _ => Duration::ZERO,
            };
            let delay = delay(failures, times.retry_base, job.queue.max_backoff(), chance);
            Some(
                delay
                    .max(floor)
                    .max(failure.retry_after.unwrap_or_default()),
            )
        }
    };
    RetryDecision {
        state: if is_in_doubt {
            StepState::Unknown
        } else {
            StepState::Error
        },
        delay,
        charged,
        in_doubt: is_in_doubt && !waited,
    }
}

#[cfg(test)]
mod tests {
    use bson::DateTime;
    use dezky_shared::{queue::args::TrimAudit, store::jobs::NewJob};

    use super::*;

    /// A job with three attempts.
    fn job() -> Job {
        let new = NewJob::new(&TrimAudit {}, "test", DateTime::from_millis(0));
        let mut job = new.expect("it is small").job().clone();
        job.max_attempts = Some(3);
        job
    }

    fn decide(code: ErrorCode, retry_after: Option<Duration>, attempt: i32) -> RetryDecision {
        let mut job = job();
        job.attempt = attempt;
        let failure = StepFailure {
            retry_after,
            ..StepFailure::new(code, "")
        };
        decide_retry(&EngineTimings::default(), &job, 1, &failure, 0.0)
    }

    #[test]
    fn the_upstreams_failures_are_retried_uncharged_and_not_before_its_retry_after() {
        let wait = Duration::from_secs(7);

        let decision = decide(ErrorCode::UpstreamUnavailable, Some(wait), 3);

        assert_eq!((decision.delay, decision.charged), (Some(wait), false));
        assert_eq!(decision.state, StepState::Error);
    }

    #[test]
    fn the_last_charged_failure_is_permanent() {
        let earlier = decide(ErrorCode::UpstreamConflict, None, 2);
        let last = decide(ErrorCode::UpstreamConflict, None, 3);

        assert_eq!(
            (earlier.delay, earlier.charged),
            (Some(Duration::ZERO), true)
        );
        assert_eq!((last.delay, last.charged), (None, true));
    }

    #[test]
    fn a_write_of_unknown_outcome_is_in_doubt_and_charged_to_its_own_job_only() {
        let times = EngineTimings::default();
        let own = decide(ErrorCode::UpstreamAnswerLost, None, 1);
        let other = decide(
            ErrorCode::UpstreamAnswerLost,
            Some(Duration::from_secs(1)),
            1,
        );

        assert_eq!(
            (own.state, own.in_doubt, own.charged),
            (StepState::Unknown, true, true)
        );
        assert_eq!(own.delay, Some(times.in_doubt_wait));
        assert_eq!((other.in_doubt, other.charged), (false, false));
    }

    #[test]
    fn a_failure_after_progress_is_not_charged() {
        let without = StepFailure::new(ErrorCode::UpstreamConflict, "");
        let with = StepFailure {
            made_progress: true,
            ..without.clone()
        };
        let mut job = job();
        job.attempt = 3;

        let last = decide_retry(&EngineTimings::default(), &job, 1, &without, 0.0);
        let continued = decide_retry(&EngineTimings::default(), &job, 1, &with, 0.0);

        assert_eq!((last.delay, last.charged), (None, true));
        assert_eq!(
            (continued.delay, continued.charged),
            (Some(Duration::ZERO), false)
        );
    }

    #[test]
    fn refused_credentials_wait_for_the_hold_backoff() {
        let decision = decide(ErrorCode::UpstreamCredentialsRefused, None, 3);

        assert_eq!(decision.delay, Some(EngineTimings::default().hold_backoff));
    }
}
