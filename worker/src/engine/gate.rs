//! The gate before a step that speaks to an upstream: whether it may, now.
//!
//! It may not while a person has paused the upstream, while the upstream refuses our credentials, while its circuit is
//! open, or before its turn in the upstream's budget. Then the step waits at no cost, and no other step with it. What
//! people say is read from MongoDB once a second; what steps learn is shared through Redis ([`dezky_shared::circuit`]).
//! Once an upstream is well again, the leader lets go what it held.

mod credentials;
mod following;
mod letting_go;

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    circuit::{Admission, Budget, Effect, HORIZON, News},
    clients::Trust,
    clock,
    failure::{Disposition, ErrorCode},
    job::Step,
    upstream::Upstream,
};

pub(crate) use self::following::Known;
use super::Engine;
use crate::work::{End, StepDone, StepFailure};

/// A step that may speak to its upstream now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pass {
    /// Set if it is the one that tries refused credentials again: when the next may.
    tries_credentials: Option<DateTime>,
    /// Whether it is the one that tries whether the upstream is back.
    tries_circuit: bool,
}

/// A step that has to wait.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Held {
    /// Until when.
    pub(crate) until: DateTime,
    /// Why.
    pub(crate) reason: Reason,
}

/// Why a step has to wait.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    /// Its turn in the budget comes then.
    Turn,
    /// All turns are taken, and it asks again then.
    Full,
    /// Nobody may go.
    Closed(StepFailure),
}

impl Engine {
    /// Asks for `step`, which speaks to `upstream`.
    pub(crate) async fn admit(&self, upstream: Upstream, step: &Step) -> Result<Pass, Held> {
        let now = self.ctx.store.now();
        if self.known().paused_upstreams.contains(&upstream) {
            // Resuming lets it go; this is for when nobody does.
            return Err(held(
                ErrorCode::UpstreamPaused,
                format!("{upstream} is paused"),
                clock::later(now, spread(self.times.hold, self.times.hold / 10)),
            ));
        }
        if let Some(held) = self.refused_credentials(upstream, now) {
            return Err(held);
        }
        let tries_circuit = self.admit_by_circuit(upstream, step, now).await?;
        // Last: a try of the credentials is not to be wasted on a step that then has to wait.
        let tries_credentials = self.try_credentials(upstream, now).await?;
        Ok(Pass {
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
    ) -> Result<bool, Held> {
        let had_turn = step
            .turn_at
            .filter(|_| !step.asks_again)
            .is_some_and(|at| at <= now && clock::until(at, now) < self.times.turn_kept);
        let budget = self.budget(upstream);
        match self.ctx.circuits.admit(upstream, budget, had_turn).await {
            Admission::Go => Ok(false),
            Admission::Probe => Ok(true),
            Admission::Turn(wait) => Err(Held {
                until: clock::later(now, wait),
                reason: Reason::Turn,
            }),
            // Some a little before the turns given so far are over, so that the budget does not lie idle.
            Admission::Full(wait) => Err(Held {
                until: clock::later(now, spread(wait.saturating_sub(HORIZON / 2), HORIZON)),
                reason: Reason::Full,
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
    pub(crate) async fn note(
        &self,
        upstream: Upstream,
        pass: Pass,
        trust: &Trust,
        result: Result<&StepDone, &StepFailure>,
    ) {
        // Without trust the step was hindered here, not there.
        let could_write = trust.for_write(Duration::MAX).is_some();
        let news = news(result).filter(|news| could_write || *news != News::Failed);
        let refused =
            result.is_err_and(|failure| failure.code == ErrorCode::UpstreamCredentialsRefused);
        self.note_credentials(upstream, pass.tries_credentials, refused, news)
            .await;
        match news {
            Some(news) => self.report(upstream, pass.tries_circuit, news).await,
            // It tried nothing: the next step does.
            None if pass.tries_circuit => self.ctx.circuits.probe_now(upstream).await,
            None => {}
        }
    }

    /// Notes that a step that was let through took all the time that its attempt had.
    pub(crate) async fn note_timeout(&self, upstream: Upstream, pass: Pass) {
        self.report(upstream, pass.tries_circuit, News::TimedOut)
            .await;
    }

    async fn report(&self, upstream: Upstream, probing: bool, news: News) {
        let times = self.times.circuit;
        let effect = self.ctx.circuits.report(upstream, times, probing, news);
        match effect.await {
            Effect::None => {}
            Effect::Opened => {
                tracing::warn!(%upstream, "The upstream is away; one job at a time tries whether it is back");
            }
            Effect::Closed => tracing::info!(%upstream, "The upstream is back"),
        }
    }

    fn budget(&self, upstream: Upstream) -> Budget {
        self.budgets.get(&upstream).copied().unwrap_or_default()
    }
}

/// What the end of a step says about its upstream; nothing if it may not even have asked.
fn news(result: Result<&StepDone, &StepFailure>) -> Option<News> {
    let failure = match result {
        Ok(done) => return (done.end != End::Skipped).then_some(News::Answered),
        Err(failure) => failure,
    };
    match failure.code {
        ErrorCode::UpstreamUnreachable
        | ErrorCode::UpstreamUnavailable
        | ErrorCode::UpstreamIdentityUnavailable
        | ErrorCode::UpstreamAnswerLost => Some(News::Failed),
        ErrorCode::UpstreamRateLimited => {
            Some(failure.retry_after.map_or(News::Answered, News::SlowDown))
        }
        ErrorCode::UpstreamConflict | ErrorCode::UpstreamNotReady => Some(News::Answered),
        code => match code.disposition() {
            Disposition::Hold | Disposition::Final => Some(News::Answered),
            Disposition::Charged | Disposition::Free => None,
        },
    }
}

fn held(code: ErrorCode, detail: String, until: DateTime) -> Held {
    Held {
        until,
        reason: Reason::Closed(StepFailure::new(code, detail)),
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
    use crate::work::Facts;

    #[test]
    fn only_what_an_upstream_surely_said_is_news_of_it() {
        let done = StepDone::ok(reason::PROVISIONED, Vec::new(), Facts::default());
        let skipped = StepDone::skipped(reason::NO_DOMAIN);
        let wait = Duration::from_secs(7);
        let told_to_wait = StepFailure {
            retry_after: Some(wait),
            ..StepFailure::new(ErrorCode::UpstreamRateLimited, "")
        };
        let failed = |code| news(Err(&StepFailure::new(code, "")));

        assert_eq!(news(Ok(&done)), Some(News::Answered));
        assert_eq!(news(Ok(&skipped)), None);
        assert_eq!(news(Err(&told_to_wait)), Some(News::SlowDown(wait)));
        assert_eq!(failed(ErrorCode::UpstreamRateLimited), Some(News::Answered));
        assert_eq!(failed(ErrorCode::UpstreamUnreachable), Some(News::Failed));
        assert_eq!(failed(ErrorCode::UpstreamUnavailable), Some(News::Failed));
        assert_eq!(failed(ErrorCode::UpstreamAnswerLost), Some(News::Failed));
        assert_eq!(
            failed(ErrorCode::UpstreamCredentialsRefused),
            Some(News::Answered)
        );
        assert_eq!(failed(ErrorCode::UpstreamRejected), Some(News::Answered));
        assert_eq!(failed(ErrorCode::UpstreamConflict), Some(News::Answered));
        assert_eq!(failed(ErrorCode::UpstreamNotReady), Some(News::Answered));
        assert_eq!(failed(ErrorCode::DomainInUse), Some(News::Answered));
        assert_eq!(failed(ErrorCode::Internal), None);
        assert_eq!(failed(ErrorCode::AttemptTimedOut), None);
    }
}
