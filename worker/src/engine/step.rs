//! One step of one attempt: running it, and what its end means.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::{
        error_code::{ErrorCode, RetryPolicy},
        job::{Job, JobFailure, Step, StepState},
    },
    upstream::Upstream,
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::FutureExt as _;

use super::{
    Engine,
    admission::{Deferred, Permit, Reason},
};
use crate::{
    metrics,
    retry_delay::delay,
    steps::{StepContext, StepFailure, StepOutcome, StepSpec, StepSuccess},
};

/// A step that has ended, for now or for good.
#[derive(Debug, Clone)]
pub(crate) struct StepEnd {
    /// Its place in the job's list.
    pub(crate) index: usize,
    /// As it is recorded.
    pub(crate) step: Step,
    /// The upstream it speaks of.
    pub(crate) upstream: Option<Upstream>,
    /// Whether it says how the tenant stands there.
    pub(crate) speaks_for_tenant: bool,
    /// What it brought, unless it failed.
    pub(crate) done: Option<StepSuccess>,
    /// Whether it was begun: its upstream may have kept it waiting.
    pub(crate) tried: bool,
    /// Whether its failure costs the job an attempt.
    pub(crate) charged: bool,
    /// Until when a write of unknown outcome may still land. The step's next try is not earlier.
    pub(crate) unknown_until: Option<DateTime>,
}

/// How a step's failure is judged.
struct RetryDecision {
    state: StepState,
    next_at: Option<DateTime>,
    charged: bool,
    unknown_until: Option<DateTime>,
}

impl Engine {
    /// Runs a step. It always ends: a panic is a failure like any other.
    pub(crate) async fn run_step(
        self: Arc<Self>,
        index: usize,
        step: StepSpec,
        run: StepContext,
        before: Step,
        admitted: Arc<OnceLock<Permit>>,
    ) -> StepEnd {
        let began = self.ctx.store.now();
        let job = run.job.clone();
        let mut end = match self.try_step(&step, run, &before, &admitted).await {
            Err(held) => return Self::held(index, &step, before, held),
            Ok(Ok(done)) => StepEnd {
                index,
                step: Step {
                    state: match done.end {
                        StepOutcome::Ok => StepState::Ok,
                        StepOutcome::Skipped => StepState::Skipped,
                        StepOutcome::Unfinished { .. } => StepState::Pending,
                    },
                    attempts: 0,
                    next_at: match done.end {
                        StepOutcome::Unfinished { again_at } => Some(again_at),
                        StepOutcome::Ok | StepOutcome::Skipped => None,
                    },
                    reserved_at: None,
                    queue_full: false,
                    changes: done.changes.clone(),
                    error: None,
                    ..before
                },
                upstream: step.upstream,
                speaks_for_tenant: step.speaks_for_tenant,
                done: Some(done),
                tried: true,
                charged: false,
                unknown_until: None,
            },
            Ok(Err(failure)) => StepEnd {
                tried: step.upstream.is_none() || admitted.get().is_some(),
                ..self.failed(index, &step, &job, before, &failure)
            },
        };
        end.step.started_at = Some(began);
        end.step.finished_at = Some(self.ctx.store.now());
        metrics::stepped(&end.step);
        end
    }

    /// The end of a step that its upstream's gate did not let through. Nothing was tried.
    fn held(index: usize, step: &StepSpec, before: Step, held: Deferred) -> StepEnd {
        let asks_again = held.reason == Reason::Saturated;
        let (state, turn_at, error) = match held.reason {
            Reason::Reserved | Reason::Saturated => (before.state, Some(held.until), before.error),
            Reason::Blocked(reason) => {
                let unknown = before.state == StepState::Unknown;
                let error = describe(&reason, step.upstream, true);
                let state = if unknown {
                    before.state
                } else {
                    StepState::Error
                };
                (state, None, Some(error))
            }
        };
        StepEnd {
            index,
            step: Step {
                state,
                next_at: Some(held.until),
                reserved_at: turn_at,
                queue_full: asks_again,
                error,
                ..before
            },
            upstream: step.upstream,
            speaks_for_tenant: step.speaks_for_tenant,
            done: None,
            tried: false,
            charged: false,
            unknown_until: None,
        }
    }

    async fn try_step(
        &self,
        step: &StepSpec,
        run: StepContext,
        before: &Step,
        admitted: &OnceLock<Permit>,
    ) -> Result<Result<StepSuccess, StepFailure>, Deferred> {
        let Some(upstream) = step.upstream else {
            return Ok(catch_panic(step, run).await);
        };
        if let Some(until) = run
            .tenant
            .as_ref()
            .and_then(|(tenant, _)| *tenant.unknown_until.get(upstream))
        {
            let now = self.ctx.store.now();
            if now < until {
                return Ok(Err(StepFailure {
                    code: ErrorCode::UpstreamAnswerLost,
                    detail: "an earlier write may still land; waiting before looking again"
                        .to_owned(),
                    retry_after: Some(clock::until(now, until)),
                }));
            }
        }
        let pass = self.admit(upstream, before).await?;
        let pass = *admitted.get_or_init(|| pass);
        let trust = run.trust.clone();
        let result = catch_panic(step, run).await;
        self.record_result(upstream, pass, &trust, result.as_ref())
            .await;
        Ok(result)
    }

    pub(crate) fn failed(
        &self,
        index: usize,
        step: &StepSpec,
        job: &Job,
        before: Step,
        failure: &StepFailure,
    ) -> StepEnd {
        let failures = before.attempts.saturating_add(1);
        let verdict = self.decide_retry(job, failures, failure);
        tracing::warn!(
            step = step.name,
            code = failure.code.reason(),
            detail = failure.detail,
            next_at = verdict.next_at.map(|at| at.to_string()),
            "A step failed"
        );
        StepEnd {
            index,
            step: Step {
                state: verdict.state,
                attempts: failures,
                next_at: verdict.next_at,
                reserved_at: None,
                queue_full: false,
                error: Some(describe(failure, step.upstream, verdict.next_at.is_some())),
                ..before
            },
            upstream: step.upstream,
            speaks_for_tenant: step.speaks_for_tenant,
            done: None,
            tried: true,
            charged: verdict.charged,
            unknown_until: verdict.unknown_until,
        }
    }

    fn decide_retry(&self, job: &Job, failures: i32, failure: &StepFailure) -> RetryDecision {
        let now = self.ctx.store.now();
        let disposition = failure.code.retry_policy();
        // Waiting for what another job's write left open is not this job's fault.
        let waited = failure.code == ErrorCode::UpstreamAnswerLost && failure.retry_after.is_some();
        let unknown = failure.code == ErrorCode::UpstreamAnswerLost && !waited;
        let charged = disposition == RetryPolicy::Counted && !waited;
        let exhausted = charged && job.max_attempts.is_some_and(|most| job.attempt >= most);

        let chance = rand::random();
        let wait = match disposition {
            RetryPolicy::Never => None,
            _ if exhausted => None,
            RetryPolicy::AfterHold => {
                let hold = failure.retry_after.unwrap_or(self.times.hold_backoff);
                Some(hold + (self.times.hold_backoff / 10).mul_f64(chance))
            }
            RetryPolicy::Counted | RetryPolicy::Free => {
                let delay = delay(
                    failures,
                    self.times.retry_base,
                    job.queue.max_backoff(),
                    chance,
                );
                let floor = match failure.code {
                    ErrorCode::UpstreamIdentityUnavailable => self.times.identity_wait,
                    _ if unknown => self.times.in_doubt_wait,
                    _ => Duration::ZERO,
                };
                Some(
                    delay
                        .max(floor)
                        .max(failure.retry_after.unwrap_or(Duration::ZERO)),
                )
            }
        };
        RetryDecision {
            state: if failure.code == ErrorCode::UpstreamAnswerLost {
                StepState::Unknown
            } else {
                StepState::Error
            },
            next_at: wait.map(|wait| clock::later(now, wait)),
            charged,
            unknown_until: unknown.then(|| clock::later(now, self.times.in_doubt_wait)),
        }
    }

    /// The end of a step that was cut off while it ran. `None` if nothing happened that has to be recorded.
    pub(crate) fn cut_off(
        &self,
        index: usize,
        step: &StepSpec,
        job: &Job,
        before: Step,
        trust: &LeaseDeadline,
        timed_out: bool,
    ) -> Option<StepEnd> {
        let unanswered = trust.has_in_flight_writes();
        let code = match (unanswered, timed_out) {
            (true, false) => ErrorCode::UpstreamAnswerLost,
            (_, true) => ErrorCode::AttemptTimedOut,
            (false, false) => return None,
        };
        let failure = StepFailure::new(code, "the step was cut off");
        let mut end = self.failed(index, step, job, before, &failure);
        end.charged = timed_out;
        let now = self.ctx.store.now();
        end.step.finished_at = Some(now);
        end.unknown_until = None;
        if unanswered && step.upstream.is_some() {
            let landed = clock::later(now, self.times.in_doubt_wait);
            end.unknown_until = Some(landed);
            end.step.state = StepState::Unknown;
            end.step.next_at = end.step.next_at.map(|at| at.max(landed));
        }
        Some(end)
    }
}

fn describe(failure: &StepFailure, upstream: Option<Upstream>, retryable: bool) -> JobFailure {
    JobFailure {
        code: failure.code,
        class: failure.code.class(),
        message: failure.code.customer_text(upstream),
        detail: failure.detail.chars().take(2_000).collect(),
        retryable,
    }
}

async fn catch_panic(step: &StepSpec, run: StepContext) -> Result<StepSuccess, StepFailure> {
    // A step keeps nothing between runs that a panic could leave half done.
    AssertUnwindSafe(async { (step.run)(run).await })
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StepFailure::new(ErrorCode::Internal, "the step panicked")))
}
