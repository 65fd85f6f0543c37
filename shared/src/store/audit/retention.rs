//! Audit retention: deletes sealed events from the start of their chain. The anchor moves in the same transaction, so
//! that the rest remains verifiable.

use bson::{DateTime, Document, doc};
use futures::{FutureExt as _, TryStreamExt as _};
use mongodb::{ClientSession, options::Hint};
use serde::Deserialize;

use super::{AuditRepository, NEWEST_INDEX, StoreError};
use crate::{
    audit::hash_chain::{Chain, Link},
    id::{AuditEventId, TenantId},
    store::{TransactionError, to_bson},
};

/// An event whose retention period is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExpiredEvent {
    /// Event id.
    #[serde(rename = "_id")]
    pub id: AuditEventId,
    /// Recording time.
    pub at: DateTime,
    /// Trail: a tenant, or the platform.
    #[serde(default)]
    pub tenant_id: Option<TenantId>,
}

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
    /// The first `limit` events of all trails that were recorded before `cutoff`, after `after`, oldest first.
    pub async fn list_expired(
        &self,
        cutoff: DateTime,
        after: Option<ExpiredEvent>,
        limit: i64,
    ) -> Result<Vec<ExpiredEvent>, StoreError> {
        let mut expired = doc! { "at": { "$lt": cutoff } };
        if let Some(ExpiredEvent { id, at, .. }) = after {
            expired = doc! { "$or": [
                { "at": { "$gt": at, "$lt": cutoff } },
                { "at": at, "_id": { "$gt": id } },
            ] };
        }
        self.events
            .clone_with_type::<ExpiredEvent>()
            .find(expired)
            .sort(doc! { "at": 1, "_id": 1 })
            .projection(doc! { "at": 1, "tenantId": 1 })
            .hint(Hint::Name(NEWEST_INDEX.to_owned()))
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Deletes those of the first `limit` sealed events of a trail that were recorded before `cutoff`, in one transaction.
    pub async fn trim(
        &self,
        tenant: Option<TenantId>,
        cutoff: DateTime,
        limit: i64,
    ) -> Result<Trimmed, StoreError> {
        let chain = self.find_chain(tenant).await?;
        let first: Vec<Document> = self
            .stored()
            .find(doc! { "tenantId": tenant, "seq": { "$gt": chain.anchor.seq } })
            .sort(doc! { "seq": 1 })
            .limit(limit)
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
