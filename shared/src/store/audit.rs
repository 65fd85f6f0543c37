//! Audit repository. Events are inserted once; afterwards they are only sealed, and deleted after their retention
//! period.

mod outcomes;
mod query;
mod retention;
mod sealing;
mod verify;

use std::sync::Arc;

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

pub use self::{
    outcomes::AcceptedAction,
    query::{AuditCursor, AuditFilter},
    retention::{ExpiredEvent, Trimmed},
    sealing::{Backlog, SEAL_BATCH, SealedTrail},
    verify::{MAX_PROBLEMS, Verification},
};
use super::{Store, StoreError, group_commit::Inserts};
use crate::{
    audit::{AuditEvent, hash_chain::Chain, redact},
    id::TenantId,
};

/// Cursor batch size. A batch is in memory as a whole, and an event that replaces a tenant's branding has 240 KB.
const READ_BATCH: u32 = 32;
/// Index of all events, newest first.
const NEWEST_INDEX: &str = "newest_first";
/// Index of all events by term, newest first.
const TERMS_INDEX: &str = "terms";
/// Index of a tenant's events, newest first.
const TENANT_NEWEST_INDEX: &str = "tenant_newest_first";
/// Index of a tenant's events by term, newest first.
const TENANT_TERMS_INDEX: &str = "tenant_terms";
/// Index of unsealed events.
const UNSEALED_INDEX: &str = "unsealed";
/// Index of events without a sequence number.
const UNNUMBERED_INDEX: &str = "unnumbered";

/// Audit events of all tenants and of the platform, and their hash chains.
#[derive(Debug, Clone)]
pub struct AuditRepository {
    store: Arc<Store>,
    events: Collection<AuditEvent>,
    chains: Collection<Chain>,
    accepted: Collection<AcceptedAction>,
}

impl AuditRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: store.clone(),
            events: store.collection("audit_events"),
            chains: store.collection("audit_chains"),
            accepted: store.collection("audit_accepted"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let index = |name: &str, keys: Document| {
            let options = IndexOptions::builder().name(name.to_owned()).build();
            IndexModel::builder().keys(keys).options(options).build()
        };
        let unsealed = IndexOptions::builder()
            .name(UNSEALED_INDEX.to_owned())
            .partial_filter_expression(doc! { "sealed": false })
            .build();
        let unnumbered = IndexOptions::builder()
            .name(UNNUMBERED_INDEX.to_owned())
            .partial_filter_expression(doc! { "seq": null })
            .build();
        let chain = IndexOptions::builder()
            .name("chain".to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "seq": { "$exists": true } })
            .build();
        self.events
            .create_indexes([
                index(NEWEST_INDEX, doc! { "at": -1, "_id": -1 }),
                index(TERMS_INDEX, doc! { "terms": 1, "at": -1, "_id": -1 }),
                index(
                    TENANT_NEWEST_INDEX,
                    doc! { "tenantId": 1, "at": -1, "_id": -1 },
                ),
                index(
                    TENANT_TERMS_INDEX,
                    doc! { "tenantId": 1, "terms": 1, "at": -1, "_id": -1 },
                ),
                IndexModel::builder()
                    .keys(doc! { "sealed": 1, "tenantId": 1, "_id": 1 })
                    .options(unsealed)
                    .build(),
                IndexModel::builder()
                    .keys(doc! { "tenantId": 1, "sealed": 1 })
                    .options(unnumbered)
                    .build(),
                IndexModel::builder()
                    .keys(doc! { "tenantId": 1, "seq": 1 })
                    .options(chain)
                    .build(),
            ])
            .await?;
        Ok(())
    }

    /// Inserts an event, in the transaction of the mutation that it records. Secrets are redacted.
    pub async fn record(
        &self,
        session: &mut ClientSession,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        self.record_all(session, std::slice::from_ref(event)).await
    }

    /// Inserts several events like [`record`](Self::record).
    pub async fn record_all(
        &self,
        session: &mut ClientSession,
        events: &[AuditEvent],
    ) -> Result<(), StoreError> {
        if events.is_empty() {
            return Ok(());
        }
        let events_of_jobs: Vec<AcceptedAction> =
            events.iter().filter_map(AcceptedAction::of).collect();
        let events = events.iter().map(redacted);
        let inserted = self.events.insert_many(events).session(&mut *session);
        inserted.await?;
        self.await_outcomes(session, events_of_jobs).await
    }

    /// Inserts several events like [`record`](Self::record), in a [group commit](super::group_commit).
    pub fn record_in_group(
        &self,
        inserts: &mut Inserts,
        events: &[AuditEvent],
    ) -> Result<(), StoreError> {
        for event in events {
            inserts.add(&self.events, &redacted(event))?;
        }
        for accepted in events.iter().filter_map(AcceptedAction::of) {
            inserts.add(&self.accepted, &accepted)?;
        }
        Ok(())
    }

    /// The last `limit` events of this tenant, newest first.
    pub async fn latest(
        &self,
        tenant_id: TenantId,
        limit: i64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let filter = AuditFilter {
            tenant: Some(tenant_id),
            ..AuditFilter::default()
        };
        self.list(&filter, None, limit).await?.try_collect().await
    }

    /// The chain of a tenant, or of the platform.
    pub async fn find_chain(&self, tenant: Option<TenantId>) -> Result<Chain, StoreError> {
        let found = self.chains.find_one(doc! { "_id": Chain::id(tenant) });
        Ok(found.await?.unwrap_or_else(|| Chain::new(tenant)))
    }

    /// The raw events as stored: the hash covers them in this form.
    fn stored(&self) -> Collection<Document> {
        self.events.clone_with_type()
    }
}

/// The event as it is stored: without secrets, and with its search terms.
fn redacted(event: &AuditEvent) -> AuditEvent {
    let mut event = event.clone();
    redact(&mut event.before);
    redact(&mut event.after);
    event.terms = event.terms();
    event
}
