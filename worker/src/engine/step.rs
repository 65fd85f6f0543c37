//! One step of one attempt: admission, the call, and the decision after its end.

mod retry;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
};

use dezky_shared::{
    platform::clock,
    queue::{
        error_code::ErrorCode,
        job::{FailureCause, Job, JobFailure, Step, StepState},
    },
    upstream::Upstream,
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::FutureExt as _;

use self::retry::decide_retry;
use super::{
    EngineTimings,
    admission::{Admission, DeferralReason, Deferred, Permit},
};
use crate::{
    context::Context,
    metrics,
    steps::{StepContext, StepEnd, StepFailure, StepOutcome, StepSpec, StepSuccess},
};

/// The most changes that a step stores, and the most characters of each: the job has to remain a small document.
const MAX_CHANGES: usize = 200;
const MAX_CHANGE_CHARS: usize = 300;

/// Runs steps.
pub(super) struct StepRunner {
    ctx: Arc<Context>,
    times: EngineTimings,
    admission: Arc<Admission>,
}

/// A step of a job in this attempt.
#[derive(Clone)]
pub(super) struct StepRun {
    /// Its index in the job's steps.
    pub(super) index: usize,
    pub(super) spec: StepSpec,
    /// As stored before this attempt.
    pub(super) before: Step,
    pub(super) deadline: LeaseDeadline,
    /// Set once the step is admitted to its upstream.
    pub(super) permit: Arc<OnceLock<Permit>>,
}

impl StepRun {
    /// An end with `step` as the stored state: not attempted, not charged.
    fn end(&self, step: Step) -> StepEnd {
        StepEnd {
            index: self.index,
            step,
            upstream: self.spec.upstream,
            sets_condition: self.spec.sets_condition,
            success: None,
            attempted: false,
            charged: false,
            in_doubt_until: None,
        }
    }

    fn succeeded(&self, success: StepSuccess) -> StepEnd {
        let (state, next_at) = match success.outcome {
            StepOutcome::Ok => (StepState::Ok, None),
            StepOutcome::Skipped => (StepState::Skipped, None),
            StepOutcome::Unfinished { again_at } => (StepState::Pending, Some(again_at)),
        };
        let step = Step {
            state,
            attempts: 0,
            next_at,
            reserved_at: None,
            queue_full: false,
            progress: success.progress.clone(),
            changes: self.changes_after(&success.changes),
            error: None,
            ..self.before.clone()
        };
        StepEnd {
            success: Some(success),
            attempted: true,
            ..self.end(step)
        }
    }

    /// These changes, after those of the attempts before.
    fn changes_after(&self, changes: &[String]) -> Vec<String> {
        let all: Vec<&String> = self.before.changes.iter().chain(changes).collect();
        capped(&all)
    }

    /// The end of a step that was not admitted to its upstream.
    fn deferred(&self, deferred: Deferred) -> StepEnd {
        let queue_full = deferred.reason == DeferralReason::Saturated;
        let before = self.before.clone();
        let (state, reserved_at, error) = match deferred.reason {
            DeferralReason::Reserved | DeferralReason::Saturated => {
                (before.state, Some(deferred.until), before.error.clone())
            }
            DeferralReason::Blocked(reason) => {
                let error = self.deferral(&reason, before.error.as_ref());
                let state = match before.state {
                    StepState::Unknown => StepState::Unknown,
                    _ => StepState::Error,
                };
                (state, None, Some(error))
            }
        };
        self.end(Step {
            state,
            next_at: Some(deferred.until),
            reserved_at,
            queue_full,
            error,
            ..before
        })
    }

    /// The error of a step whose upstream admits none. The failure that opened its circuit stays; another one is the cause.
    fn deferral(&self, reason: &StepFailure, before: Option<&JobFailure>) -> JobFailure {
        let is_open = reason.code == ErrorCode::UpstreamCircuitOpen;
        if let Some(first) = before.filter(|error| is_open && opens_circuit(error.code)) {
            return first.clone();
        }
        let mut error = describe(reason, self.spec.upstream, true);
        error.cause = cause_of(&error, before);
        error
    }
}

/// Whether a failed call with this code opens the circuit of its upstream, and its job is released when the circuit closes.
const fn opens_circuit(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::UpstreamUnreachable
            | ErrorCode::UpstreamUnavailable
            | ErrorCode::UpstreamIdentityUnavailable
    )
}

impl StepRunner {
    pub(super) fn new(
        ctx: &Arc<Context>,
        times: &EngineTimings,
        admission: Arc<Admission>,
    ) -> Self {
        Self {
            ctx: ctx.clone(),
            times: times.clone(),
            admission,
        }
    }

    /// Runs a step to its end. A panic is a failure like any other.
    pub(super) async fn run(self: Arc<Self>, run: StepRun, input: StepContext) -> StepEnd {
        let started_at = self.ctx.store.now();
        let job = input.job.clone();
        let mut end = match self.call(&run, input).await {
            Err(deferred) => return run.deferred(deferred),
            Ok(Ok(success)) => run.succeeded(success),
            Ok(Err(failure)) => StepEnd {
                attempted: run.spec.upstream.is_none() || run.permit.get().is_some(),
                ..self.failed(&run, &job, &failure)
            },
        };
        end.step.started_at = Some(started_at);
        end.step.finished_at = Some(self.ctx.store.now());
        metrics::stepped(&end.step);
        end
    }

    /// Calls the step once its upstream admits it.
    async fn call(
        &self,
        run: &StepRun,
        input: StepContext,
    ) -> Result<Result<StepSuccess, StepFailure>, Deferred> {
        let Some(upstream) = run.spec.upstream else {
            return Ok(catch_panic(&run.spec, input).await);
        };
        let in_doubt_until = input
            .target
            .as_ref()
            .and_then(|target| target.in_doubt_until(upstream));
        let now = self.ctx.store.now();
        if let Some(until) = in_doubt_until.filter(|until| now < *until) {
            return Ok(Err(StepFailure {
                retry_after: Some(clock::until(now, until)),
                ..StepFailure::new(
                    ErrorCode::UpstreamAnswerLost,
                    "an earlier write is in doubt and may still land",
                )
            }));
        }
        let job = &input.job;
        let permit = self.admission.admit(upstream, job, &run.before).await?;
        let permit = *run.permit.get_or_init(|| permit);
        let deadline = input.deadline.clone();
        let result = catch_panic(&run.spec, input).await;
        self.admission
            .record_result(upstream, permit, &deadline, result.as_ref())
            .await;
        Ok(result)
    }

    fn failed(&self, run: &StepRun, job: &Job, failure: &StepFailure) -> StepEnd {
        // The backoff of an attempt with progress starts over.
        let failures = if failure.made_progress {
            1
        } else {
            run.before.attempts.saturating_add(1)
        };
        let now = self.ctx.store.now();
        let decision = decide_retry(&self.times, job, failures, failure, rand::random());
        let next_at = decision.delay.map(|delay| clock::later(now, delay));
        tracing::warn!(
            step = run.spec.name,
            code = failure.code.name(),
            detail = failure.detail,
            next_at = next_at.map(|at| at.to_string()),
            "Step failed"
        );
        let step = Step {
            state: decision.state,
            attempts: failures,
            next_at,
            reserved_at: None,
            queue_full: false,
            progress: failure
                .progress
                .as_deref()
                .or(run.before.progress.as_ref())
                .cloned(),
            changes: if job.is_dry_run() {
                // A repetition lists them again.
                run.before.changes.clone()
            } else {
                run.changes_after(&failure.changes)
            },
            error: Some(describe(failure, run.spec.upstream, next_at.is_some())),
            ..run.before.clone()
        };
        let mut end = StepEnd {
            attempted: true,
            charged: decision.charged,
            ..run.end(step)
        };
        // A step with concurrent writes drops those in flight when one fails.
        let has_dropped_writes = run.spec.upstream.is_some() && run.deadline.has_in_flight_writes();
        if decision.in_doubt || has_dropped_writes {
            let until = clock::later(now, self.times.in_doubt_wait);
            end.in_doubt_until = Some(until);
            end.step.state = StepState::Unknown;
            end.step.next_at = end.step.next_at.map(|at| at.max(until));
        }
        end
    }

    /// The end of a step that was cancelled while it ran. `None` if there is nothing to record: it can be repeated as if
    /// it had not begun.
    pub(super) fn interrupted(&self, run: &StepRun, job: &Job, timed_out: bool) -> Option<StepEnd> {
        let in_doubt = run.deadline.has_in_flight_writes();
        let failure = match (in_doubt, timed_out) {
            (_, true) => StepFailure::new(ErrorCode::AttemptTimedOut, "the step was interrupted"),
            // With a delay of its own it is not charged: the worker stops, which exhausts no attempts.
            (true, false) => StepFailure {
                retry_after: Some(self.times.in_doubt_wait),
                ..StepFailure::new(ErrorCode::UpstreamAnswerLost, "the step was interrupted")
            },
            (false, false) => return None,
        };
        let mut end = self.failed(run, job, &failure);
        end.step.finished_at = Some(self.ctx.store.now());
        Some(end)
    }
}

/// The first changes, and whether there were more.
fn capped(changes: &[&String]) -> Vec<String> {
    let stored = |change: &&String| change.chars().take(MAX_CHANGE_CHARS).collect();
    let mut capped: Vec<String> = changes.iter().take(MAX_CHANGES).map(stored).collect();
    if changes.len() > MAX_CHANGES {
        capped.push("further changes are not listed".to_owned());
    }
    capped
}

fn describe(failure: &StepFailure, upstream: Option<Upstream>, retryable: bool) -> JobFailure {
    JobFailure {
        code: failure.code,
        class: failure.code.class(),
        message: failure.code.customer_text(upstream),
        detail: failure.detail.chars().take(2_000).collect(),
        operation: failure.operation.map(str::to_owned),
        retryable,
        cause: None,
    }
}

/// The cause of a step's deferral: the failure before it, unless that was a deferral as well, which knows its own cause.
fn cause_of(deferral: &JobFailure, before: Option<&JobFailure>) -> Option<FailureCause> {
    let before = before?;
    if before.code == deferral.code || before.cause.is_some() {
        return before.cause.clone();
    }
    Some(FailureCause {
        code: before.code,
        detail: before.detail.clone(),
        operation: before.operation.clone(),
    })
}

async fn catch_panic(step: &StepSpec, input: StepContext) -> Result<StepSuccess, StepFailure> {
    // Unwind safety: a step shares no state between runs that a panic could leave inconsistent.
    AssertUnwindSafe(async { (step.run)(input).await })
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StepFailure::new(ErrorCode::Internal, "the step panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stores_a_limited_number_of_changes() {
        let few = vec!["group created".to_owned(); MAX_CHANGES];
        let many = vec!["x".repeat(2 * MAX_CHANGE_CHARS); MAX_CHANGES + 5];

        assert_eq!(capped(&few.iter().collect::<Vec<_>>()), few);
        let stored = capped(&many.iter().collect::<Vec<_>>());
        assert_eq!(stored.len(), MAX_CHANGES + 1);
        assert_eq!(stored[0].chars().count(), MAX_CHANGE_CHARS);
        assert_eq!(stored[MAX_CHANGES], "further changes are not listed");
    }

    fn failure(code: ErrorCode) -> JobFailure {
        JobFailure::permanent(code, "detail")
    }

    #[test]
    fn the_cause_of_a_deferral_is_the_first_failure() {
        let lost = failure(ErrorCode::UpstreamAnswerLost);
        let open = JobFailure {
            cause: cause_of(&failure(ErrorCode::UpstreamCircuitOpen), Some(&lost)),
            ..failure(ErrorCode::UpstreamCircuitOpen)
        };
        let paused = cause_of(&failure(ErrorCode::UpstreamPaused), Some(&open));

        let code = |cause: Option<FailureCause>| cause.map(|cause| cause.code);
        assert_eq!(code(open.cause), Some(ErrorCode::UpstreamAnswerLost));
        assert_eq!(code(paused), Some(ErrorCode::UpstreamAnswerLost));
        assert_eq!(code(cause_of(&lost, None)), None);
    }
}
