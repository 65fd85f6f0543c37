//! The snapshots of what tenants had bought.

use std::sync::Arc;

use bson::{Bson, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{Collection, IndexModel};

use super::{Store, StoreError, known_fields, to_bson, to_document};
use crate::{
    id::SnapshotId,
    subscription_snapshot::{Month, SubscriptionSnapshot},
};

/// The name of the collection.
const COLLECTION: &str = "subscription_snapshots";

/// What MongoDB says of an insert whose id is taken.
const DUPLICATE_KEY: i32 = 11_000;

/// The snapshots of all months.
#[derive(Debug, Clone)]
pub struct SnapshotRepository {
    store: Arc<Store>,
    snapshots: Collection<SubscriptionSnapshot>,
}

impl SnapshotRepository {
    /// The snapshots in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: store.clone(),
            snapshots: store.collection(COLLECTION),
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let by_month = IndexModel::builder()
            .keys(doc! { "month": 1, "_id": 1 })
            .build();
        self.snapshots.create_index(by_month).await?;
        Ok(())
    }

    /// Writes snapshots in the place of those of the same tenants and month that are older. One that was taken when
    /// the month was over is not replaced: it is how the month ended.
    pub async fn renew(&self, snapshots: &[SubscriptionSnapshot]) -> Result<(), StoreError> {
        let older = |snapshot: &SubscriptionSnapshot| {
            let until = snapshot.taken_at.min(snapshot.month.end());
            doc! { "_id": snapshot.id, "takenAt": { "$lt": until } }
        };
        self.upsert(snapshots, older, known_fields::set_known_fields)
            .await
    }

    /// Writes those of which there is none yet.
    pub async fn add_missing(&self, snapshots: &[SubscriptionSnapshot]) -> Result<(), StoreError> {
        let any = |snapshot: &SubscriptionSnapshot| doc! { "_id": snapshot.id };
        let insert = |snapshot: &_| Ok(doc! { "$setOnInsert": to_document(snapshot)? });
        self.upsert(snapshots, any, insert).await
    }

    /// One command: the driver offers bulks only from MongoDB 8.0 on.
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
        // There is one that is not to be replaced.
        let is_kept = |error: &Bson| {
            let error = error.as_document();
            error.is_some_and(|error| error.get_i32("code").ok() == Some(DUPLICATE_KEY))
        };
        let mut errors = answer.get_array("writeErrors").into_iter().flatten();
        match errors.find(|error| !is_kept(error)) {
            Some(why) => Err(StoreError::custom(format!("writeErrors: {why}"))),
            None => Ok(()),
        }
    }

    /// At most `limit` snapshots of `month` after `after`, in the order in which the tenants were made.
    pub async fn list(
        &self,
        month: Month,
        after: Option<SnapshotId>,
        limit: i64,
    ) -> Result<Vec<SubscriptionSnapshot>, StoreError> {
        let mut filter = doc! { "month": to_bson(&month)? };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        self.snapshots
            .find(filter)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }
}
