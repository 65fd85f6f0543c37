//! Subscription snapshot repository.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use mongodb::Collection;

use super::{Store, StoreError, index::index, known_fields, page::page, to_bson, to_document};
use crate::{
    id::SnapshotId,
    subscription_snapshot::{Month, SubscriptionSnapshot},
};

/// Name of the collection.
const COLLECTION: &str = "subscription_snapshots";

/// MongoDB's error code of a duplicate key.
const DUPLICATE_KEY: i32 = 11_000;

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
        let by_month = index(doc! { "month": 1, "_id": 1 });
        self.snapshots.create_index(by_month).await?;
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

    /// Upserts in one command: the driver's bulk write requires MongoDB 8.0.
    async fn upsert(
        &self,
        snapshots: &[SubscriptionSnapshot],
        replaced: impl Fn(&SubscriptionSnapshot) -> Document,
        update: impl Fn(&SubscriptionSnapshot) -> Result<Document, StoreError>,
    ) -> Result<(), StoreError> {
        if snapshots.is_empty() {
            return Ok(());
        }
        let updates: Result<Vec<Document>, StoreError> = snapshots
            .iter()
            .map(|snapshot| {
                Ok(doc! { "q": replaced(snapshot), "u": update(snapshot)?, "upsert": true })
            })
            .collect();
        let command = doc! {
            "update": COLLECTION,
            "updates": updates?,
            "ordered": false,
            "writeConcern": { "w": "majority", "j": true },
        };
        let answer = self.store.database().run_command(command).await?;
        if let Some(why) = answer.get("writeConcernError") {
            return Err(StoreError::custom(format!("writeConcernError: {why}")));
        }
        // A final snapshot exists.
        let is_duplicate = |error: &Bson| {
            let error = error.as_document();
            error.is_some_and(|error| error.get_i32("code").ok() == Some(DUPLICATE_KEY))
        };
        let mut errors = answer.get_array("writeErrors").into_iter().flatten();
        match errors.find(|error| !is_duplicate(error)) {
            Some(why) => Err(StoreError::custom(format!("writeErrors: {why}"))),
            None => Ok(()),
        }
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
