//! Sealing the audit trail: every event gets its place in the chain of its tenant, or of the platform.

use dezky_shared::{
    audit::chain::Chain,
    store::{StoreError, audit::SEALED_TOGETHER},
};

use super::Engine;
use crate::metrics;

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
            for trail in audit.list_unsealed().await? {
                match audit.seal(trail).await {
                    Ok(Some(sealed)) => {
                        metrics::sealed(sealed.events);
                        tell(&sealed.chain, sealed.events);
                        is_more |= sealed.events == SEALED_TOGETHER;
                    }
                    Ok(None) => {}
                    Err(error) => {
                        let chain = Chain::new(trail).id;
                        tracing::error!(audit.chain = chain, %error, "Could not seal a trail; trying again");
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whoever keeps the log elsewhere can tell later whether a whole chain was rewritten.
fn tell(chain: &Chain, events: usize) {
    tracing::info!(
        audit.chain = chain.id,
        audit.seq = chain.head.seq,
        audit.hash = chain.head.hash,
        events,
        "Sealed audit events"
    );
}
