//! Audit retention: deletes sealed events from the start of their chain. The anchor moves in the same transaction, so
//! that the rest remains verifiable.

use bson::{DateTime, Document, doc};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use mongodb::ClientSession;

use super::{AuditRepository, StoreError};
use crate::{
    audit::hash_chain::{Chain, Link},
    id::TenantId,
    store::{TransactionError, lenient::skip_undecodable, to_bson},
};

/// Maximum number of events deleted in one transaction.
const BATCH: i64 = 500;

/// Result of trimming a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trimmed {
    /// This number of events was deleted; more may follow.
    Events(u64),
    /// Nothing was deleted: the retention period of all events still runs.
    Nothing,
    /// Nothing was deleted: the first remaining event, with this number, fails verification. Trimming stops until an
    /// operator has investigated.
    Broken(i64),
}

/// A concurrent transaction moved the anchor.
struct ConcurrentUpdate;

impl AuditRepository {
    /// At most `limit` readable chains after this id, ordered by id.
    pub async fn list_chains(&self, after: &str, limit: i64) -> Result<Vec<Chain>, StoreError> {
        let found = self
            .chains
            .clone_with_type::<Document>()
            .find(doc! { "_id": { "$gt": after } })
            .sort(doc! { "_id": 1 })
            // No `limit`, because undecodable documents do not count; by default a batch is filled up to 16 MiB.
            .batch_size(u32::try_from(limit).unwrap_or(u32::MAX))
            .await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        skip_undecodable(found).take(limit).try_collect().await
    }

    /// Deletes the first sealed events of a trail that were recorded before `cutoff`.
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
                // Allows an auditor who keeps the log elsewhere to detect other changes of the anchor.
                tracing::info!(
                    audit.chain = chain.id,
                    audit.seq = anchor.seq,
                    audit.hash = anchor.hash,
                    events,
                    "Deleted audit events whose retention period is over"
                );
                Ok(Trimmed::Events(events))
            }
            Err(TransactionError::Aborted(ConcurrentUpdate)) => Ok(Trimmed::Nothing),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn move_anchor(
        &self,
        session: &mut ClientSession,
        chain: &Chain,
        anchor: &Link,
    ) -> Result<(), TransactionError<ConcurrentUpdate>> {
        let as_read = doc! { "_id": &chain.id, "anchor": to_bson(&chain.anchor)? };
        let moved = doc! { "$set": { "anchor": to_bson(anchor)? } };
        let chains = &self.chains;
        let moved = chains.update_one(as_read, moved).session(&mut *session);
        if moved.await?.matched_count == 0 {
            return Err(TransactionError::Aborted(ConcurrentUpdate));
        }
        let seqs = doc! { "$gt": chain.anchor.seq, "$lte": anchor.seq };
        let old = doc! { "tenantId": chain.tenant_id, "seq": seqs };
        self.events.delete_many(old).session(session).await?;
        Ok(())
    }
}
