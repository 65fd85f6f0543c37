//! Sealing the audit trail: every event gets its place in the chain of its tenant, or of the platform.

use dezky_shared::{
    audit::hash_chain::Chain,
    id::TenantId,
    store::{
        StoreError,
        audit::{SEALED_TOGETHER, Sealed},
    },
};

use super::Engine;
use crate::metrics;

/// How many trails are sealed in one transaction, where that can be.
const TOGETHER: usize = 50;

impl Engine {
    /// Seals whatever is not sealed yet. Run by the leader; two that do it at the same time do no harm.
    ///
    /// Trails have their turns, so that one with much to seal holds up no other; one that cannot be sealed is in
    /// nobody's way.
    pub(crate) async fn seal(&self) -> Result<(), StoreError> {
        let audit = &self.ctx.audit;
        let mut is_more = true;
        while is_more {
            is_more = false;
            let trails = audit.list_unsealed().await?;
            for trails in trails.chunks(TOGETHER) {
                match audit.seal(trails).await {
                    Ok(Some(sealed)) => {
                        tell(&sealed);
                        is_more |= is_cut(&sealed);
                    }
                    Ok(None) | Err(_) => is_more |= self.seal_each(trails).await,
                }
            }
        }
        Ok(())
    }

    /// Says whether there is more to seal.
    async fn seal_each(&self, trails: &[Option<TenantId>]) -> bool {
        let mut is_more = false;
        for trail in trails {
            match self.ctx.audit.seal(&[*trail]).await {
                Ok(sealed) => {
                    let sealed = sealed.unwrap_or_default();
                    tell(&sealed);
                    is_more |= is_cut(&sealed);
                }
                Err(error) => {
                    let chain = Chain::new(*trail).id;
                    tracing::error!(audit.chain = chain, %error, "Could not seal a trail; trying again");
                }
            }
        }
        is_more
    }
}

/// Whether there may be more of a trail than was sealed of it.
fn is_cut(sealed: &[Sealed]) -> bool {
    sealed.iter().any(|one| one.events == SEALED_TOGETHER)
}

/// Whoever keeps the log elsewhere can tell later whether a whole chain was rewritten.
fn tell(sealed: &[Sealed]) {
    for Sealed { events, chain } in sealed {
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
