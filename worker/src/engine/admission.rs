//! Admission of steps to their upstreams.
//!
//! A step is admitted unless the upstream is paused, its credentials are refused, its circuit breaker is open, or its rate
//! budget is spent. A deferred step waits at no cost, and delays no other step. A step beyond the rate budget queues for a
//! reservation, which the leader hands out (`rate_queue`). Operators' pauses are read from MongoDB once they are announced
//! ([`ControlState`](super::control_state::ControlState)); call results are shared through Redis
//! ([`dezky_upstreams::circuit_breaker`]). Once an upstream recovers, the leader releases the jobs that were deferred
//! because of it (`duties::release_deferred`).

mod credentials;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::{
        error_code::{ErrorCode, RetryPolicy},
        job::{Job, Step},
    },
    upstream::Upstream,
};
use dezky_upstreams::{
    circuit_breaker::{BreakerDecision, CallResult, RateBudget, Transition},
    clients::LeaseDeadline,
};

use super::{EngineTimings, control_state::ControlWatch};
use crate::{
    context::Context,
    steps::{StepFailure, StepOutcome, StepSuccess},
};

/// Admits steps to their upstreams, and records the results of their calls.
pub(super) struct Admission {
    ctx: Arc<Context>,
    times: EngineTimings,
    budgets: BTreeMap<Upstream, RateBudget>,
    control: Arc<ControlWatch>,
}

/// The permission to call an upstream now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Permit {
    /// Set on the probe of refused credentials: when the next probe is due.
    next_credentials_probe: Option<DateTime>,
    /// Whether this is the half-open probe of the circuit breaker.
    is_breaker_probe: bool,
}

/// The decision that a step has to wait.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Deferred {
    /// Time to ask again.
    pub(super) until: DateTime,
    pub(super) reason: DeferralReason,
}

/// Reason why a step has to wait.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum DeferralReason {
    /// The rate budget reserved that instant for it.
    Reserved,
    /// All reservations up to the horizon of its priority are taken: it queues for one.
    Saturated,
    /// No step is admitted to the upstream.
    Blocked(StepFailure),
}

impl Admission {
    pub(super) fn new(
        ctx: &Arc<Context>,
        times: &EngineTimings,
        budgets: &BTreeMap<Upstream, RateBudget>,
        control: Arc<ControlWatch>,
    ) -> Self {
        Self {
            ctx: ctx.clone(),
            times: times.clone(),
            budgets: budgets.clone(),
            control,
        }
    }

    /// Requests admission of a step of `job` to `upstream`.
    pub(super) async fn admit(
        &self,
        upstream: Upstream,
        job: &Job,
        step: &Step,
    ) -> Result<Permit, Deferred> {
        let now = self.ctx.store.now();
        if self.control.state().paused_upstreams.contains(&upstream) {
            // Resuming the upstream releases the job.
            return Err(blocked(
                ErrorCode::UpstreamPaused,
                format!("{upstream} is paused"),
                self.fallback(now),
            ));
        }
        if let Some(deferred) = self.refused_credentials(upstream, now) {
            return Err(deferred);
        }
        let is_breaker_probe = self.admit_by_breaker(upstream, job, step, now).await?;
        // Last: a deferred step must not use up the probe of the credentials.
        let next_credentials_probe = self.claim_probe(upstream, now).await?;
        Ok(Permit {
            next_credentials_probe,
            is_breaker_probe,
        })
    }

    /// Requests admission from the circuit breaker and the rate budget. True for the half-open probe.
    async fn admit_by_breaker(
        &self,
        upstream: Upstream,
        job: &Job,
        step: &Step,
        now: DateTime,
    ) -> Result<bool, Deferred> {
        let has_reservation = step
            .reserved_at
            .filter(|_| !step.queue_full)
            .is_some_and(|at| at <= now && clock::until(at, now) < self.times.reservation_grace);
        let budget = self.budgets.get(&upstream).copied().unwrap_or_default();
        let breakers = &self.ctx.circuits;
        match breakers
            .admit(upstream, budget, has_reservation, job.priority)
            .await
        {
            BreakerDecision::Allow => Ok(false),
            BreakerDecision::Probe => Ok(true),
            BreakerDecision::Reserved(wait) => Err(Deferred {
                until: clock::later(now, wait),
                reason: DeferralReason::Reserved,
            }),
            // The leader hands out reservations in the order of the queue.
            BreakerDecision::Saturated(_) => Err(Deferred {
                until: self.fallback(now),
                reason: DeferralReason::Saturated,
            }),
            // Jitter: the first to return is the half-open probe.
            BreakerDecision::Open(wait) => Err(blocked(
                ErrorCode::UpstreamCircuitOpen,
                format!("the circuit breaker of {upstream} is open until the next probe"),
                clock::later(now, spread(wait, self.times.circuit.first_probe)),
            )),
        }
    }

    /// Time at which a step asks again that the leader makes due before, unless there is none.
    fn fallback(&self, now: DateTime) -> DateTime {
        let wait = spread(self.times.hold_backoff, self.times.hold_backoff / 10);
        clock::later(now, wait)
    }

    /// Records the result of an admitted step's call for its upstream.
    pub(super) async fn record_result(
        &self,
        upstream: Upstream,
        permit: Permit,
        deadline: &LeaseDeadline,
        result: Result<&StepSuccess, &StepFailure>,
    ) {
        // Past the lease deadline a failure may be this worker's own.
        let could_write = deadline.write_timeout(Duration::MAX).is_some();
        let call = classify(result).filter(|call| could_write || *call != CallResult::Failed);
        let refused =
            result.is_err_and(|failure| failure.code == ErrorCode::UpstreamCredentialsRefused);
        self.record_credentials(upstream, permit.next_credentials_probe, refused, call)
            .await;
        self.record_revealed(upstream, permit, call).await;
    }

    async fn record_revealed(&self, upstream: Upstream, permit: Permit, call: Option<CallResult>) {
        match call {
            Some(call) => {
                self.record_call(upstream, permit.is_breaker_probe, call)
                    .await;
            }
            // The probe made no call: the next step is the probe.
            None if permit.is_breaker_probe => self.ctx.circuits.force_half_open(upstream).await,
            None => {}
        }
    }

    /// Records what an admitted step that used up its attempt's whole time revealed about its upstream: its work may be
    /// large, and every call answered.
    pub(super) async fn record_timeout(
        &self,
        upstream: Upstream,
        permit: Permit,
        deadline: &LeaseDeadline,
    ) {
        let call = if deadline.has_answered_calls() {
            Some(CallResult::Answered)
        } else {
            deadline
                .has_in_flight_calls()
                .then_some(CallResult::TimedOut)
        };
        self.record_revealed(upstream, permit, call).await;
    }

    async fn record_call(&self, upstream: Upstream, probing: bool, call: CallResult) {
        let times = self.times.circuit;
        let breakers = &self.ctx.circuits;
        match breakers.record(upstream, times, probing, call).await {
            Transition::None => {}
            Transition::Opened => {
                tracing::warn!(%upstream, "Circuit breaker opened; probing the upstream one job at a time");
            }
            Transition::Closed => tracing::info!(%upstream, "Circuit breaker closed"),
        }
    }
}

/// Call result that the end of a step implies for its upstream. `None` if it may not have made a call.
fn classify(result: Result<&StepSuccess, &StepFailure>) -> Option<CallResult> {
    let failure = match result {
        Ok(success) => {
            return (success.outcome != StepOutcome::Skipped).then_some(CallResult::Answered);
        }
        Err(failure) => failure,
    };
    match failure.code {
        ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamUnavailable
        | ErrorCode::UpstreamIdentityUnavailable
        | ErrorCode::UpstreamAnswerLost => Some(CallResult::Failed),
        ErrorCode::UpstreamRateLimited => Some(
            failure
                .retry_after
                .map_or(CallResult::Answered, CallResult::SlowDown),
        ),
        ErrorCode::UpstreamConflict
        | ErrorCode::UpstreamNotReady
        | ErrorCode::UpstreamStateChanged
        | ErrorCode::UpstreamResponseInvalid => Some(CallResult::Answered),
        code => match code.retry_policy() {
            RetryPolicy::AfterHold | RetryPolicy::Never => Some(CallResult::Answered),
            RetryPolicy::Counted | RetryPolicy::Free => None,
        },
    }
}

fn blocked(code: ErrorCode, detail: String, until: DateTime) -> Deferred {
    Deferred {
        until,
        reason: DeferralReason::Blocked(StepFailure::new(code, detail)),
    }
}

/// `wait` plus a random share of `jitter`.
fn spread(wait: Duration, jitter: Duration) -> Duration {
    wait + jitter.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_definite_answer_of_the_upstream_is_a_call_result() {
        let success = StepSuccess::ok("Provisioned", Vec::new());
        let skipped = StepSuccess::skipped("NoDomain");
        let wait = Duration::from_secs(7);
        let rate_limited = StepFailure {
            retry_after: Some(wait),
            ..StepFailure::new(ErrorCode::UpstreamRateLimited, "")
        };
        let failed = |code| classify(Err(&StepFailure::new(code, "")));

        assert_eq!(classify(Ok(&success)), Some(CallResult::Answered));
        assert_eq!(classify(Ok(&skipped)), None);
        assert_eq!(
            classify(Err(&rate_limited)),
            Some(CallResult::SlowDown(wait))
        );
        assert_eq!(
            failed(ErrorCode::UpstreamRateLimited),
            Some(CallResult::Answered)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamUnreachable),
            Some(CallResult::Failed)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamUnavailable),
            Some(CallResult::Failed)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamAnswerLost),
            Some(CallResult::Failed)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamCredentialsRefused),
            Some(CallResult::Answered)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamRejected),
            Some(CallResult::Answered)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamConflict),
            Some(CallResult::Answered)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamNotReady),
            Some(CallResult::Answered)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamStateChanged),
            Some(CallResult::Answered)
        );
        assert_eq!(
            failed(ErrorCode::UpstreamResponseInvalid),
            Some(CallResult::Answered)
        );
        assert_eq!(failed(ErrorCode::DomainInUse), Some(CallResult::Answered));
        assert_eq!(failed(ErrorCode::Internal), None);
        assert_eq!(failed(ErrorCode::AttemptTimedOut), None);
    }
}
