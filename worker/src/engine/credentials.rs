//! Refused credentials stop every worker from knocking: some upstreams ban whoever goes on.
//!
//! The first refusal is told to all workers. Jobs are held, none is lost; one job tries again every half hour, and
//! all go on once that works, or once a worker starts with other credentials.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    clock,
    failure::ErrorCode,
    job::JobState,
    store::{StoreError, to_bson, upstreams::UpstreamHealth},
    upstream::Upstream,
};

use super::Engine;
use crate::work::{End, StepDone, StepFailure};

/// The upstreams whose credentials are refused, as last read, and when each may be tried.
#[derive(Debug, Default)]
pub(crate) struct Refused(RwLock<BTreeMap<Upstream, DateTime>>);

impl Refused {
    fn probe_at(&self, upstream: Upstream) -> Option<DateTime> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&upstream)
            .copied()
    }

    fn set(&self, upstream: Upstream, probe_at: Option<DateTime>) {
        let mut refused = self.0.write().unwrap_or_else(PoisonError::into_inner);
        match probe_at {
            Some(at) => refused.insert(upstream, at),
            None => refused.remove(&upstream),
        };
    }
}

impl Engine {
    /// Follows what other workers learn, once a second.
    pub(crate) async fn keep_watching_credentials(&self) {
        loop {
            match self.ctx.upstreams.list().await {
                Ok(known) => {
                    for UpstreamHealth {
                        upstream, probe_at, ..
                    } in known
                    {
                        self.refused.set(upstream, probe_at);
                    }
                }
                Err(error) => tracing::debug!(%error, "Could not read the state of the upstreams"),
            }
            tokio::time::sleep(self.times.sweep_every).await;
        }
    }

    /// Says which credentials this worker uses. Jobs that others' held are let go.
    pub(crate) async fn introduce_credentials(&self) -> Result<(), StoreError> {
        for &(upstream, ref fingerprint) in self.ctx.clients.fingerprints() {
            if self.ctx.upstreams.start_with(upstream, fingerprint).await? {
                tracing::info!(%upstream, "Trying other credentials");
                self.let_go(upstream).await?;
            }
        }
        Ok(())
    }

    /// Whether a step may speak to `upstream` now; true if it is the one that tries refused credentials again.
    pub(crate) async fn admit(&self, upstream: Upstream) -> Result<bool, StepFailure> {
        let Some(probe_at) = self.refused.probe_at(upstream) else {
            return Ok(false);
        };
        let now = self.ctx.store.now();
        if now >= probe_at {
            let next = clock::later(now, self.times.hold);
            self.refused.set(upstream, Some(next));
            if self
                .ctx
                .upstreams
                .take_probe(upstream, probe_at, next)
                .await?
            {
                return Ok(true);
            }
        }
        let until = self.refused.probe_at(upstream).unwrap_or(probe_at);
        Err(StepFailure {
            code: ErrorCode::UpstreamCredentialsRefused,
            detail: format!(
                "{upstream} refuses our credentials; not asked again before the next probe"
            ),
            retry_after: Some(clock::until(now, until)),
        })
    }

    /// Notes how `upstream` took our credentials.
    pub(crate) async fn note_credentials(
        &self,
        upstream: Upstream,
        probing: bool,
        result: Result<&StepDone, &StepFailure>,
    ) {
        let noted = match result {
            Err(failure) if failure.code == ErrorCode::UpstreamCredentialsRefused => {
                self.refuse(upstream).await
            }
            // Only the probe: another step may have been answered before the refusal. And only if it asked at all.
            Ok(done) if probing && done.end != End::Skipped => self.accept(upstream).await,
            _ => Ok(()),
        };
        if let Err(error) = noted {
            tracing::warn!(%upstream, %error, "Could not tell the other workers about the credentials");
        }
    }

    async fn refuse(&self, upstream: Upstream) -> Result<(), StoreError> {
        let now = self.ctx.store.now();
        let probe_at = clock::later(now, self.times.hold);
        if self.refused.probe_at(upstream).is_none() {
            tracing::error!(%upstream, "The credentials are refused; jobs that need them are held");
        }
        self.refused.set(upstream, Some(probe_at));
        self.ctx.upstreams.refuse(upstream, now, probe_at).await
    }

    async fn accept(&self, upstream: Upstream) -> Result<(), StoreError> {
        self.refused.set(upstream, None);
        if self.ctx.upstreams.accept(upstream).await? {
            tracing::info!(%upstream, "The credentials are accepted again");
            self.let_go(upstream).await?;
        }
        Ok(())
    }

    /// Makes the jobs due that were held for `upstream`.
    async fn let_go(&self, upstream: Upstream) -> Result<(), StoreError> {
        let code = to_bson(&ErrorCode::UpstreamCredentialsRefused)?;
        let held =
            doc! { "name": upstream.name(), "error.code": code, "nextAt": { "$exists": true } };
        let held = doc! { "state": JobState::Available.name(), "steps": { "$elemMatch": held } };
        let now = self.ctx.store.now();
        let due = doc! {
            "$set": { "runAt": now, "steps.$[held].nextAt": now, "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        self.jobs
            .clone_with_type::<Document>()
            .update_many(held, due)
            .array_filters([doc! { "held.name": upstream.name() }])
            .await?;
        Ok(())
    }
}
