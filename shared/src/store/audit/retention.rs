//! Deleting what need not be kept any more: sealed events, from the beginning of their chain. The anchor moves on in
//! the same transaction, so that the rest can still be verified.

use bson::{DateTime, Document, doc};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use mongodb::ClientSession;

use super::{AuditRepository, StoreError};
use crate::{
    audit::hash_chain::{Chain, Link},
    id::TenantId,
    store::{TransactionError, lenient::skip_undecodable, to_bson},
};

/// How many events are deleted in one transaction.
const BATCH: i64 = 500;

/// What was deleted of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// So many events; there may be more.
    Events(u64),
    /// Nothing: all that there is has to be kept.
    Nothing,
    /// Nothing: the first event that is kept is not what was sealed. It stays until somebody has looked, and so does
    /// all that follows.
    Broken(i64),
}

/// Somebody else moved the anchor on.
struct Overtaken;

impl AuditRepository {
    /// At most `limit` chains that can be read, from after this id on, in the order of their ids.
    pub async fn list_chains(&self, after: &str, limit: i64) -> Result<Vec<Chain>, StoreError> {
        let found = self
            .chains
            .clone_with_type::<Document>()
            .find(doc! { "_id": { "$gt": after } })
            .sort(doc! { "_id": 1 })
            .await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        skip_undecodable(found).take(limit).try_collect().await
    }

    /// Deletes the first events of a trail that are sealed and were recorded before `cutoff`.
    pub async fn trim(
        &self,
        tenant: Option<TenantId>,
        cutoff: DateTime,
    ) -> Result<Trimmed, StoreError> {
        let chain = self.find_chain(tenant).await?;
        let first: Vec<Document> = self
            .stored()
            .find(doc! { "tenantId": tenant, "seq": { "$gt": chain.anchor.seq } })
            .sort(doc! { "seq": 1 })
            .limit(BATCH)
            .await?
            .try_collect()
            .await?;
        let is_old = |event: &&Document| event.get_datetime("at").is_ok_and(|at| *at < cutoff);
        let (mut anchor, mut events) = (chain.anchor.clone(), 0);
        for event in first.iter().take_while(is_old) {
            match anchor.verify_next(event) {
                Ok(next) => (anchor, events) = (next, events + 1),
                Err(_) if events > 0 => break,
                Err(_) => return Ok(Trimmed::Broken(anchor.seq + 1)),
            }
        }
        if events == 0 {
            return Ok(Trimmed::Nothing);
        }
        let committed = self
            .store
            .transaction((self, &chain, &anchor), |session, (this, chain, anchor)| {
                this.move_anchor(session, chain, anchor).boxed()
            })
            .await;
        match committed {
            Ok(()) => {
                // Whoever keeps the log elsewhere can tell later whether the anchor was moved by anybody else.
                tracing::info!(
                    audit.chain = chain.id,
                    audit.seq = anchor.seq,
                    audit.hash = anchor.hash,
                    events,
                    "Deleted audit events that need not be kept"
                );
                Ok(Trimmed::Events(events))
            }
            Err(TransactionError::Aborted(Overtaken)) => Ok(Trimmed::Nothing),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn move_anchor(
        &self,
        session: &mut ClientSession,
        chain: &Chain,
        anchor: &Link,
    ) -> Result<(), TransactionError<Overtaken>> {
        let as_read = doc! { "_id": &chain.id, "anchor": to_bson(&chain.anchor)? };
        let moved = doc! { "$set": { "anchor": to_bson(anchor)? } };
        let chains = &self.chains;
        let moved = chains.update_one(as_read, moved).session(&mut *session);
        if moved.await?.matched_count == 0 {
            return Err(TransactionError::Aborted(Overtaken));
        }
        let seqs = doc! { "$gt": chain.anchor.seq, "$lte": anchor.seq };
        let old = doc! { "tenantId": chain.tenant_id, "seq": seqs };
        self.events.delete_many(old).session(session).await?;
        Ok(())
    }
}
