//! Refused credentials: no worker calls the upstream with them, since some upstreams ban an address that repeats a failed
//! login.
//!
//! The first refusal blocks the upstream for all workers and defers their jobs. One job probes the credentials every half
//! hour; a probe that succeeds, or a worker that starts with other credentials, releases the jobs.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    platform::{change_feed::DocumentChange, clock},
    queue::error_code::ErrorCode,
    store::StoreError,
    upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::CallResult;

use super::{Admission, Deferred, blocked, spread};

impl Admission {
    /// Registers the credentials that this worker uses. Jobs that were deferred because of others are released.
    pub(in crate::engine) async fn register_credentials(&self) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        for &(upstream, ref fingerprint) in self.ctx.clients.fingerprints() {
            let upstreams = &self.ctx.upstreams;
            if upstreams
                .register_credentials(upstream, fingerprint, now)
                .await?
            {
                tracing::info!(%upstream, "Using other credentials than before");
                self.announce().await;
            }
        }
        Ok(())
    }

    /// The deferral of a step while the credentials for `upstream` are refused and no probe is due.
    pub(super) fn refused_credentials(
        &self,
        upstream: Upstream,
        now: DateTime,
    ) -> Option<Deferred> {
        let probe_at = self.control.probe_at(upstream).filter(|at| now < *at)?;
        let jitter = spread(Duration::ZERO, self.times.hold_backoff / 10);
        Some(blocked(
            ErrorCode::UpstreamCredentialsRefused,
            format!("{upstream} refuses our credentials; they are next probed at {probe_at}"),
            clock::later(probe_at, jitter),
        ))
    }

    /// Claims the due probe of refused credentials. Returns when the next is due if this step is the probe, and `None`
    /// if no credentials are refused.
    pub(super) async fn claim_probe(
        &self,
        upstream: Upstream,
        now: DateTime,
    ) -> Result<Option<DateTime>, Deferred> {
        let Some(probe_at) = self.control.probe_at(upstream) else {
            return Ok(None);
        };
        let next = clock::later(now, self.times.hold_backoff);
        self.control.set_probe_at(upstream, Some(next));
        let upstreams = &self.ctx.upstreams;
        match upstreams.claim_probe(upstream, probe_at, next).await {
            Ok(true) => {
                self.announce().await;
                return Ok(Some(next));
            }
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%upstream, %error, "Could not claim the probe of the credentials");
            }
        }
        match self.refused_credentials(upstream, now) {
            Some(deferred) => Err(deferred),
            None => Ok(None),
        }
    }

    /// Records whether `upstream` accepted the credentials.
    pub(super) async fn record_credentials(
        &self,
        upstream: Upstream,
        next_probe: Option<DateTime>,
        refused: bool,
        call: Option<CallResult>,
    ) {
        let recorded = match (call, next_probe) {
            _ if refused => self.mark_refused(upstream).await,
            // The probe only: the call of another step may have preceded the refusal.
            (Some(CallResult::Answered), Some(_)) => self.mark_accepted(upstream).await,
            // A rate limit may apply before authentication.
            (None | Some(CallResult::SlowDown(_)), Some(next)) => {
                self.return_probe(upstream, next).await
            }
            _ => Ok(()),
        };
        if let Err(error) = recorded {
            tracing::warn!(%upstream, %error, "Could not share the state of the credentials with other workers");
        }
    }

    async fn mark_refused(&self, upstream: Upstream) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        let probe_at = clock::later(now, self.times.hold_backoff);
        if self.control.probe_at(upstream).is_none() {
            tracing::error!(%upstream, "Credentials refused; deferring the jobs that need them");
        }
        self.control.set_probe_at(upstream, Some(probe_at));
        let fingerprint = self.ctx.clients.fingerprint(upstream);
        self.ctx
            .upstreams
            .mark_refused(upstream, fingerprint, now, probe_at)
            .await?;
        self.announce().await;
        Ok(())
    }

    /// Makes the probe due again: this step made no call.
    async fn return_probe(&self, upstream: Upstream, next: DateTime) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        if self.ctx.upstreams.claim_probe(upstream, next, now).await? {
            self.control.set_probe_at(upstream, Some(now));
            self.announce().await;
        }
        Ok(())
    }

    async fn mark_accepted(&self, upstream: Upstream) -> Result<(), StoreError> {
        self.control.set_probe_at(upstream, None);
        let now = self.ctx.store.now();
        let fingerprint = self.ctx.clients.fingerprint(upstream);
        if self
            .ctx
            .upstreams
            .mark_accepted(upstream, fingerprint, now)
            .await?
        {
            tracing::info!(%upstream, "Credentials accepted again");
            self.announce().await;
        }
        Ok(())
    }

    /// Announces a change of the control state to the other workers.
    async fn announce(&self) {
        self.ctx.changes.publish(&[DocumentChange::Control]).await;
    }
}
