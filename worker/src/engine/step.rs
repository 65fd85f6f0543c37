//! One step of one attempt: running it, and what its end means.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bson::DateTime;
use dezky_shared::{
    clients::Trust,
    clock,
    failure::{Disposition, ErrorCode},
    job::{Job, JobFailure, Step, StepState},
    upstream::Upstream,
};
use futures::FutureExt as _;

use super::{
    Engine,
    gate::{Held, Pass, Reason},
};
use crate::{
    metrics,
    retry_delay::delay,
    work::{End, StepDone, StepFailure, StepOf, StepRun},
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
    pub(crate) done: Option<StepDone>,
    /// Whether it was begun: its upstream may have kept it waiting.
    pub(crate) tried: bool,
    /// Whether its failure costs the job an attempt.
    pub(crate) charged: bool,
    /// Until when a write of unknown outcome may still land. The step's next try is not earlier.
    pub(crate) unknown_until: Option<DateTime>,
}

/// How a step's failure is judged.
struct Verdict {
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
        step: StepOf,
        run: StepRun,
        before: Step,
        admitted: Arc<OnceLock<Pass>>,
    ) -> StepEnd {
        let began = self.ctx.store.now();
        let job = run.job.clone();
        let mut end = match self.try_step(&step, run, &before, &admitted).await {
            Err(held) => return Self::held(index, &step, before, held),
            Ok(Ok(done)) => StepEnd {
                index,
                step: Step {
                    state: match done.end {
                        End::Ok => StepState::Ok,
                        End::Skipped => StepState::Skipped,
                        End::Unfinished { .. } => StepState::Pending,
                    },
                    attempts: 0,
                    next_at: match done.end {
                        End::Unfinished { again_at } => Some(again_at),
                        End::Ok | End::Skipped => None,
                    },
                    turn_at: None,
                    asks_again: false,
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
    fn held(index: usize, step: &StepOf, before: Step, held: Held) -> StepEnd {
        let asks_again = held.reason == Reason::Full;
        let (state, turn_at, error) = match held.reason {
            Reason::Turn | Reason::Full => (before.state, Some(held.until), before.error),
            Reason::Closed(reason) => {
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
                turn_at,
                asks_again,
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
        step: &StepOf,
        run: StepRun,
        before: &Step,
        admitted: &OnceLock<Pass>,
    ) -> Result<Result<StepDone, StepFailure>, Held> {
        let Some(upstream) = step.upstream else {
            return Ok(guarded(step, run).await);
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
        let result = guarded(step, run).await;
        self.note(upstream, pass, &trust, result.as_ref()).await;
        Ok(result)
    }

    pub(crate) fn failed(
        &self,
        index: usize,
        step: &StepOf,
        job: &Job,
        before: Step,
        failure: &StepFailure,
    ) -> StepEnd {
        let failures = before.attempts.saturating_add(1);
        let verdict = self.judge(job, failures, failure);
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
                turn_at: None,
                asks_again: false,
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

    fn judge(&self, job: &Job, failures: i32, failure: &StepFailure) -> Verdict {
        let now = self.ctx.store.now();
        let disposition = failure.code.disposition();
        // Waiting for what another job's write left open is not this job's fault.
        let waited = failure.code == ErrorCode::UpstreamAnswerLost && failure.retry_after.is_some();
        let unknown = failure.code == ErrorCode::UpstreamAnswerLost && !waited;
        let charged = disposition == Disposition::Charged && !waited;
        let exhausted = charged && job.max_attempts.is_some_and(|most| job.attempt >= most);

        let chance = rand::random();
        let wait = match disposition {
            Disposition::Final => None,
            _ if exhausted => None,
            Disposition::Hold => {
                let hold = failure.retry_after.unwrap_or(self.times.hold);
                Some(hold + (self.times.hold / 10).mul_f64(chance))
            }
            Disposition::Charged | Disposition::Free => {
                let delay = delay(
                    failures,
                    self.times.retry_base,
                    job.queue.longest_delay(),
                    chance,
                );
                let floor = match failure.code {
                    ErrorCode::UpstreamIdentityUnavailable => self.times.identity_wait,
                    _ if unknown => self.times.unknown_wait,
                    _ => Duration::ZERO,
                };
                Some(
                    delay
                        .max(floor)
                        .max(failure.retry_after.unwrap_or(Duration::ZERO)),
                )
            }
        };
        Verdict {
            state: if failure.code == ErrorCode::UpstreamAnswerLost {
                StepState::Unknown
            } else {
                StepState::Error
            },
            next_at: wait.map(|wait| clock::later(now, wait)),
            charged,
            unknown_until: unknown.then(|| clock::later(now, self.times.unknown_wait)),
        }
    }

    /// The end of a step that was cut off while it ran. `None` if nothing happened that has to be recorded.
    pub(crate) fn cut_off(
        &self,
        index: usize,
        step: &StepOf,
        job: &Job,
        before: Step,
        trust: &Trust,
        timed_out: bool,
    ) -> Option<StepEnd> {
        let unanswered = trust.has_unanswered_writes();
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
            let landed = clock::later(now, self.times.unknown_wait);
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

async fn guarded(step: &StepOf, run: StepRun) -> Result<StepDone, StepFailure> {
    // A step keeps nothing between runs that a panic could leave half done.
    AssertUnwindSafe(async { (step.run)(run).await })
        .catch_unwind()
        .await
        .unwrap_or_else(|_| Err(StepFailure::new(ErrorCode::Internal, "the step panicked")))
}
