//! The gate before a step that speaks to an upstream: whether it may, now.
//!
//! It may not while a person has paused the upstream, while the upstream refuses our credentials, while its circuit is
//! open, or before its turn in the upstream's budget. Then the step waits at no cost, and no other step with it. What
//! people say is read from MongoDB once a second; what steps learn is shared through Redis ([`dezky_upstreams::circuit_breaker`]).
//! Once an upstream is well again, the leader lets go what it held.

mod control_state;
mod credentials;
mod release_deferred;

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    platform::clock,
    queue::{
        error_code::{ErrorCode, RetryPolicy},
        job::Step,
    },
    upstream::Upstream,
};
use dezky_upstreams::{
    circuit_breaker::{Admission, CallResult, RESERVATION_HORIZON, RateBudget, Transition},
    clients::LeaseDeadline,
};

pub(crate) use self::control_state::ControlState;
use super::Engine;
use crate::steps::{StepFailure, StepOutcome, StepSuccess};

/// A step that may speak to its upstream now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Permit {
    /// Set if it is the one that tries refused credentials again: when the next may.
    tries_credentials: Option<DateTime>,
    /// Whether it is the one that tries whether the upstream is back.
    tries_circuit: bool,
}

/// A step that has to wait.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Deferred {
    /// Until when.
    pub(crate) until: DateTime,
    /// Why.
    pub(crate) reason: Reason,
}

/// Why a step has to wait.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    /// Its turn in the budget comes then.
    Reserved,
    /// All turns are taken, and it asks again then.
    Saturated,
    /// Nobody may go.
    Blocked(StepFailure),
}

impl Engine {
    /// Asks for `step`, which speaks to `upstream`.
    pub(crate) async fn admit(&self, upstream: Upstream, step: &Step) -> Result<Permit, Deferred> {
        let now = self.ctx.store.now();
        if self.known().paused_upstreams.contains(&upstream) {
            // Resuming lets it go; this is for when nobody does.
            return Err(held(
                ErrorCode::UpstreamPaused,
                format!("{upstream} is paused"),
                clock::later(
                    now,
                    spread(self.times.hold_backoff, self.times.hold_backoff / 10),
                ),
            ));
        }
        if let Some(held) = self.refused_credentials(upstream, now) {
            return Err(held);
        }
        let tries_circuit = self.admit_by_circuit(upstream, step, now).await?;
        // Last: a try of the credentials is not to be wasted on a step that then has to wait.
        let tries_credentials = self.claim_probe(upstream, now).await?;
        Ok(Permit {
            tries_credentials,
            tries_circuit,
        })
    }

    /// Whether the circuit lets `step` through; true if it is the one that tries.
    async fn admit_by_circuit(
        &self,
        upstream: Upstream,
        step: &Step,
        now: DateTime,
    ) -> Result<bool, Deferred> {
        let had_turn = step
            .reserved_at
            .filter(|_| !step.queue_full)
            .is_some_and(|at| at <= now && clock::until(at, now) < self.times.reservation_grace);
        let budget = self.budget(upstream);
        match self.ctx.circuits.admit(upstream, budget, had_turn).await {
            Admission::Allow => Ok(false),
            Admission::Probe => Ok(true),
            Admission::Reserved(wait) => Err(Deferred {
                until: clock::later(now, wait),
                reason: Reason::Reserved,
            }),
            // Some a little before the turns given so far are over, so that the budget does not lie idle.
            Admission::Saturated(wait) => Err(Deferred {
                until: clock::later(
                    now,
                    spread(
                        wait.saturating_sub(RESERVATION_HORIZON / 2),
                        RESERVATION_HORIZON,
                    ),
                ),
                reason: Reason::Saturated,
            }),
            // Those who wait come one after the other: the first of them tries.
            Admission::Open(wait) => Err(held(
                ErrorCode::UpstreamCircuitOpen,
                format!("{upstream} has been away; not asked again before the next probe"),
                clock::later(now, spread(wait, self.times.circuit.first_probe)),
            )),
        }
    }

    /// Notes what a step that was let through learned about its upstream.
    pub(crate) async fn record_result(
        &self,
        upstream: Upstream,
        pass: Permit,
        trust: &LeaseDeadline,
        result: Result<&StepSuccess, &StepFailure>,
    ) {
        // Without trust the step was hindered here, not there.
        let could_write = trust.write_timeout(Duration::MAX).is_some();
        let news = classify(result).filter(|news| could_write || *news != CallResult::Failed);
        let refused =
            result.is_err_and(|failure| failure.code == ErrorCode::UpstreamCredentialsRefused);
        self.note_credentials(upstream, pass.tries_credentials, refused, news)
            .await;
        match news {
            Some(news) => self.report(upstream, pass.tries_circuit, news).await,
            // It tried nothing: the next step does.
            None if pass.tries_circuit => self.ctx.circuits.force_half_open(upstream).await,
            None => {}
        }
    }

    /// Notes that a step that was let through took all the time that its attempt had.
    pub(crate) async fn note_timeout(&self, upstream: Upstream, pass: Permit) {
        self.report(upstream, pass.tries_circuit, CallResult::TimedOut)
            .await;
    }

    async fn report(&self, upstream: Upstream, probing: bool, news: CallResult) {
        let times = self.times.circuit;
        let effect = self.ctx.circuits.record(upstream, times, probing, news);
        match effect.await {
            Transition::None => {}
            Transition::Opened => {
                tracing::warn!(%upstream, "The upstream is away; one job at a time tries whether it is back");
            }
            Transition::Closed => tracing::info!(%upstream, "The upstream is back"),
        }
    }

    fn budget(&self, upstream: Upstream) -> RateBudget {
        self.budgets.get(&upstream).copied().unwrap_or_default()
    }
}

/// What the end of a step says about its upstream; nothing if it may not even have asked.
fn classify(result: Result<&StepSuccess, &StepFailure>) -> Option<CallResult> {
    let failure = match result {
        Ok(done) => return (done.end != StepOutcome::Skipped).then_some(CallResult::Answered),
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
        ErrorCode::UpstreamConflict | ErrorCode::UpstreamNotReady => Some(CallResult::Answered),
        code => match code.retry_policy() {
            RetryPolicy::AfterHold | RetryPolicy::Never => Some(CallResult::Answered),
            RetryPolicy::Counted | RetryPolicy::Free => None,
        },
    }
}

fn held(code: ErrorCode, detail: String, until: DateTime) -> Deferred {
    Deferred {
        until,
        reason: Reason::Blocked(StepFailure::new(code, detail)),
    }
}

/// `wait`, and a random share of `jitter`.
fn spread(wait: Duration, jitter: Duration) -> Duration {
    wait + jitter.mul_f64(rand::random())
}

#[cfg(test)]
mod tests {
    use dezky_shared::tenant::reason;

    use super::*;
    use crate::steps::UpstreamRefs;

    #[test]
    fn only_what_an_upstream_surely_said_is_news_of_it() {
        let done = StepSuccess::ok(reason::PROVISIONED, Vec::new(), UpstreamRefs::default());
        let skipped = StepSuccess::skipped(reason::NO_DOMAIN);
        let wait = Duration::from_secs(7);
        let told_to_wait = StepFailure {
            retry_after: Some(wait),
            ..StepFailure::new(ErrorCode::UpstreamRateLimited, "")
        };
        let failed = |code| classify(Err(&StepFailure::new(code, "")));

        assert_eq!(classify(Ok(&done)), Some(CallResult::Answered));
        assert_eq!(classify(Ok(&skipped)), None);
        assert_eq!(
            classify(Err(&told_to_wait)),
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
        assert_eq!(failed(ErrorCode::DomainInUse), Some(CallResult::Answered));
        assert_eq!(failed(ErrorCode::Internal), None);
        assert_eq!(failed(ErrorCode::AttemptTimedOut), None);
    }
}
