//! Audit sealing: every audit event is appended to the hash chain of its tenant, or of the platform.

use std::time::Duration;

use dezky_shared::{
    audit::hash_chain::Chain,
    id::TenantId,
    store::{
        StoreError,
        audit::{AuditRepository, SEAL_BATCH, SealedTrail},
    },
};
use futures::{FutureExt as _, future::BoxFuture};
use tokio::time::Instant;

use crate::{
    context::Context,
    engine::{Duty, EngineTimings},
    metrics,
};

/// The most trails sealed by one transaction.
const TRAILS_TOGETHER: usize = 50;

/// Seals the events that are not sealed yet.
pub(super) struct AuditSeal {
    audit: AuditRepository,
    every: Duration,
    /// Time limit of a run, after which it begins no further rounds; the next run continues.
    budget: Duration,
}

impl Duty for AuditSeal {
    fn name(&self) -> &'static str {
        "audit_seal"
    }

    fn every(&self) -> Duration {
        self.every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.seal().boxed()
    }
}

impl AuditSeal {
    pub(super) fn new(ctx: &Context, times: &EngineTimings) -> Self {
        Self {
            audit: ctx.audit.clone(),
            every: times.seal_every,
            budget: times.duty_timeout / 2,
        }
    }

    /// Seals all trails in rounds, so that a long one delays no other, and one that fails fails alone.
    async fn seal(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        let mut has_more = true;
        while has_more && began.elapsed() < self.budget {
            has_more = false;
            let trails = self.audit.list_unsealed().await?;
            for trails in trails.chunks(TRAILS_TOGETHER) {
                match self.audit.seal(trails).await {
                    Ok(Some(sealed)) => {
                        report(&sealed);
                        has_more |= is_truncated(&sealed);
                    }
                    Ok(None) | Err(_) => has_more |= self.seal_each(trails).await,
                }
            }
        }
        Ok(())
    }

    /// Seals each trail by a transaction of its own. Returns whether there is more to seal.
    async fn seal_each(&self, trails: &[Option<TenantId>]) -> bool {
        let mut has_more = false;
        for trail in trails {
            match self.audit.seal(&[*trail]).await {
                Ok(sealed) => {
                    let sealed = sealed.unwrap_or_default();
                    report(&sealed);
                    has_more |= is_truncated(&sealed);
                }
                Err(error) => {
                    let chain = Chain::new(*trail).id;
                    tracing::error!(audit.chain = chain, %error, "Could not seal a trail; retrying");
                }
            }
        }
        has_more
    }
}

/// Whether a trail may have more events than were sealed.
fn is_truncated(sealed: &[SealedTrail]) -> bool {
    sealed.iter().any(|one| one.events == SEAL_BATCH)
}

/// Logs each chain's head. Logs stored elsewhere reveal later whether a whole chain was rewritten.
fn report(sealed: &[SealedTrail]) {
    for SealedTrail { events, chain } in sealed {
        metrics::sealed(*events);
        tracing::info!(
            audit.chain = chain.id,
            audit.seq = chain.head.seq,
            audit.hash = chain.head.hash,
            events,
            "Sealed audit events"
        );
    }
}
