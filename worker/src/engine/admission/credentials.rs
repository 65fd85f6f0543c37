//! Refused credentials stop every worker from knocking: some upstreams ban whoever goes on.
//!
//! The first refusal is told to all workers. Jobs are held, none is lost; one job tries again every half hour, and
//! all go on once that works, or once a worker starts with other credentials.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    platform::clock, queue::error_code::ErrorCode, store::StoreError, upstream::Upstream,
};
use dezky_upstreams::circuit_breaker::CallResult;

use super::{super::Engine, Deferred, held, spread};

impl Engine {
    /// Says which credentials this worker uses. Jobs that others' held are let go.
    pub(crate) async fn register_credentials(&self) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        for &(upstream, ref fingerprint) in self.ctx.clients.fingerprints() {
            let upstreams = &self.ctx.upstreams;
            if upstreams
                .register_credentials(upstream, fingerprint, now)
                .await?
            {
                tracing::info!(%upstream, "Trying other credentials");
            }
        }
        Ok(())
    }

    /// Says so if the credentials for `upstream` are refused and it is too early to try them again.
    pub(super) fn refused_credentials(
        &self,
        upstream: Upstream,
        now: DateTime,
    ) -> Option<Deferred> {
        let probe_at = self.probe_at(upstream).filter(|at| now < *at)?;
        let jitter = spread(Duration::ZERO, self.times.hold_backoff / 10);
        Some(held(
            ErrorCode::UpstreamCredentialsRefused,
            format!("{upstream} refuses our credentials; not asked again before the next probe"),
            clock::later(probe_at, jitter),
        ))
    }

    /// Takes the try of refused credentials that is due. If this step got it, when the next is; nothing where none
    /// are refused.
    pub(super) async fn claim_probe(
        &self,
        upstream: Upstream,
        now: DateTime,
    ) -> Result<Option<DateTime>, Deferred> {
        let Some(probe_at) = self.probe_at(upstream) else {
            return Ok(None);
        };
        let next = clock::later(now, self.times.hold_backoff);
        self.set_probe_at(upstream, Some(next));
        let upstreams = &self.ctx.upstreams;
        match upstreams.claim_probe(upstream, probe_at, next).await {
            Ok(true) => return Ok(Some(next)),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%upstream, %error, "Could not ask who tries the credentials");
            }
        }
        match self.refused_credentials(upstream, now) {
            Some(held) => Err(held),
            None => Ok(None),
        }
    }

    /// Notes how `upstream` took our credentials.
    pub(super) async fn note_credentials(
        &self,
        upstream: Upstream,
        probing: Option<DateTime>,
        refused: bool,
        news: Option<CallResult>,
    ) {
        let noted = match (news, probing) {
            _ if refused => self.refuse(upstream).await,
            // Only the probe: another step may have been answered before the refusal.
            (Some(CallResult::Answered), Some(_)) => self.accept(upstream).await,
            // Whoever is told to slow down may not even have been asked who it is.
            (None | Some(CallResult::SlowDown(_)), Some(next)) => {
                self.return_probe(upstream, next).await
            }
            _ => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%upstream, %error, "Could not tell the other workers about the credentials");
        }
    }

    async fn refuse(&self, upstream: Upstream) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        let probe_at = clock::later(now, self.times.hold_backoff);
        if self.probe_at(upstream).is_none() {
            tracing::error!(%upstream, "The credentials are refused; jobs that need them are held");
        }
        self.set_probe_at(upstream, Some(probe_at));
        let mine = self.fingerprint(upstream);
        self.ctx
            .upstreams
            .mark_refused(upstream, mine, now, probe_at)
            .await
    }

    /// Lets another step have the try that this one made no use of.
    async fn return_probe(&self, upstream: Upstream, next: DateTime) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        if self.ctx.upstreams.claim_probe(upstream, next, now).await? {
            self.set_probe_at(upstream, Some(now));
        }
        Ok(())
    }

    async fn accept(&self, upstream: Upstream) -> Result<(), StoreError> {
        self.set_probe_at(upstream, None);
        let now = self.ctx.store.now();
        let mine = self.fingerprint(upstream);
        if self
            .ctx
            .upstreams
            .mark_accepted(upstream, mine, now)
            .await?
        {
            tracing::info!(%upstream, "The credentials are accepted again");
        }
        Ok(())
    }

    /// Of the credentials that this worker uses.
    pub(super) fn fingerprint(&self, upstream: Upstream) -> &str {
        let mut fingerprints = self.ctx.clients.fingerprints().iter();
        fingerprints
            .find(|(of, _)| *of == upstream)
            .map_or("", |(_, fingerprint)| fingerprint)
    }

    fn probe_at(&self, upstream: Upstream) -> Option<DateTime> {
        self.known().refused.get(&upstream).copied()
    }

    fn set_probe_at(&self, upstream: Upstream, probe_at: Option<DateTime>) {
        self.known.send_modify(|known| {
            match probe_at {
                Some(at) => known.refused.insert(upstream, at),
                None => known.refused.remove(&upstream),
            };
        });
    }
}
