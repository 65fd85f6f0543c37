//! Subscription snapshot repository.

use std::sync::Arc;

use bson::{Document, doc};
use futures::Stream;
use mongodb::Collection;

use super::{
    Store, StoreError, bulk_upsert::bulk_upsert, index::index, known_fields,
    lenient::skip_undecodable, page::page, to_bson, to_document,
};
use crate::{billing::month::Month, id::SnapshotId, subscription_snapshot::SubscriptionSnapshot};

/// Name of the collection.
const COLLECTION: &str = "subscription_snapshots";

/// Documents of a batch of a stream.
const STREAM_BATCH: u32 = 1_000;

/// Subscription snapshots of all months.
#[derive(Debug, Clone)]
pub struct SnapshotRepository {
    store: Arc<Store>,
    snapshots: Collection<SubscriptionSnapshot>,
}

impl SnapshotRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: store.clone(),
            snapshots: store.collection(COLLECTION),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let listed = index(doc! { "month": 1, "_id": 1 });
        let by_tenant = index(doc! { "month": 1, "tenantId": 1 });
        self.snapshots.create_indexes([listed, by_tenant]).await?;
        Ok(())
    }

    /// Replaces older snapshots of the same tenants and month. A snapshot taken after the end of the month is final and
    /// never replaced.
    pub async fn renew(&self, snapshots: &[SubscriptionSnapshot]) -> Result<(), StoreError> {
        let older = |snapshot: &SubscriptionSnapshot| {
            let until = snapshot.taken_at.min(snapshot.month.end());
            doc! { "_id": snapshot.id, "takenAt": { "$lt": until } }
        };
        self.upsert(snapshots, older, known_fields::set_known_fields)
            .await
    }

    /// Inserts the snapshots that do not exist yet.
    pub async fn add_missing(&self, snapshots: &[SubscriptionSnapshot]) -> Result<(), StoreError> {
        let any = |snapshot: &SubscriptionSnapshot| doc! { "_id": snapshot.id };
        let insert = |snapshot: &_| Ok(doc! { "$setOnInsert": to_document(snapshot)? });
        self.upsert(snapshots, any, insert).await
    }

    async fn upsert(
        &self,
        snapshots: &[SubscriptionSnapshot],
        replaced: impl Fn(&SubscriptionSnapshot) -> Document,
        update: impl Fn(&SubscriptionSnapshot) -> Result<Document, StoreError>,
    ) -> Result<(), StoreError> {
        let upserts = snapshots
            .iter()
            .map(|snapshot| Ok(doc! { "q": replaced(snapshot), "u": update(snapshot)? }));
        let upserts = upserts.collect::<Result<Vec<_>, StoreError>>()?;
        bulk_upsert(&self.store, COLLECTION, upserts).await
    }

    /// Whether there are snapshots of `month`.
    pub async fn has_month(&self, month: Month) -> Result<bool, StoreError> {
        let snapshots = self.snapshots.clone_with_type::<Document>();
        let found = snapshots.find_one(doc! { "month": to_bson(&month)? });
        Ok(found.projection(doc! { "_id": 1 }).await?.is_some())
    }

    /// The snapshots of `month`, ordered by tenant. Skips those of a newer build.
    pub async fn of_month(
        &self,
        month: Month,
    ) -> Result<
        impl Stream<Item = Result<SubscriptionSnapshot, StoreError>> + Send + use<>,
        StoreError,
    > {
        let snapshots = self.snapshots.clone_with_type::<Document>();
        let found = snapshots
            .find(doc! { "month": to_bson(&month)? })
            .sort(doc! { "tenantId": 1 })
            .batch_size(STREAM_BATCH)
            .await?;
        Ok(skip_undecodable(found))
    }

    /// At most `limit` snapshots of `month` after `after`, ordered by the tenants' creation times.
    pub async fn list(
        &self,
        month: Month,
        after: Option<SnapshotId>,
        limit: i64,
    ) -> Result<Vec<SubscriptionSnapshot>, StoreError> {
        let filter = doc! { "month": to_bson(&month)? };
        page(&self.snapshots, filter, after, limit).await
    }
}
