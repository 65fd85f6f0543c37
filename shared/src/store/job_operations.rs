//! Bulk job operation repository.

use std::{sync::Arc, time::Duration};

use bson::{DateTime, doc, oid::ObjectId};
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

use super::{
    Store, StoreError, index::ttl, lenient::take_decodable, linearizable::find_one_linearizable,
    page::newest_page, to_bson,
};
use crate::{
    id::{JobId, JobOperationId},
    queue::job_operation::{ItemOutcome, ItemReason, JobOperation, JobOperationItem},
};

/// Bulk job operations and their items.
#[derive(Debug, Clone)]
pub struct JobOperationRepository {
    operations: Collection<JobOperation>,
    items: Collection<JobOperationItem>,
}

/// Result of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemResult {
    /// The job was changed, or the given job runs instead.
    Done(Option<JobId>),
    /// The job was not changed.
    Left(ItemReason),
}

impl ItemResult {
    fn outcome(self) -> ItemOutcome {
        match self {
            Self::Done(_) => ItemOutcome::Done,
            Self::Left(reason) => reason.outcome(),
        }
    }
}

impl JobOperationRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            operations: store.collection("job_operations"),
            items: store.collection("job_operation_items"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let retention = || ttl("expireAt", Duration::ZERO);
        let in_order = IndexModel::builder()
            .keys(doc! { "operationId": 1, "n": 1 })
            .options(IndexOptions::builder().unique(true).build())
            .build();
        self.operations.create_index(retention()).await?;
        self.items.create_indexes([in_order, retention()]).await?;
        Ok(())
    }

    /// Inserts an operation on these jobs.
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        operation: &JobOperation,
        jobs: &[JobId],
    ) -> Result<(), StoreError> {
        self.operations
            .insert_one(operation)
            .session(&mut *session)
            .await?;
        if jobs.is_empty() {
            return Ok(());
        }
        let items = (1..).zip(jobs).map(|(n, &job_id)| JobOperationItem {
            id: ObjectId::new(),
            operation_id: operation.id,
            n,
            job_id,
            outcome: ItemOutcome::Pending,
            reason: None,
            new_job_id: None,
            at: None,
            expire_at: operation.expire_at,
        });
        self.items.insert_many(items).session(session).await?;
        Ok(())
    }

    /// The operation with this id.
    pub async fn find(&self, id: JobOperationId) -> Result<Option<JobOperation>, StoreError> {
        find_one_linearizable(&self.operations, doc! { "_id": id }).await
    }

    /// At most `limit` operations before this id, newest first.
    pub async fn list(
        &self,
        before: Option<JobOperationId>,
        limit: i64,
    ) -> Result<Vec<JobOperation>, StoreError> {
        newest_page(&self.operations, doc! {}, before, limit).await
    }

    /// At most `limit` items of an operation after `after`, in order. Those of a newer build are left out: they are settled.
    pub async fn list_items(
        &self,
        id: JobOperationId,
        outcome: Option<ItemOutcome>,
        after: i64,
        limit: i64,
    ) -> Result<Vec<JobOperationItem>, StoreError> {
        let mut query = doc! { "operationId": id, "n": { "$gt": after } };
        if let Some(outcome) = outcome {
            query.insert("outcome", to_bson(&outcome)?);
        }
        let items = self.items.clone_with_type();
        let in_order = doc! { "operationId": 1, "n": 1 };
        take_decodable(items.find(query).sort(in_order), limit).await
    }

    /// Settles an item, in the transaction that changes its job; `false` if it was settled before. `by` is the running
    /// job.
    pub async fn settle(
        &self,
        session: &mut ClientSession,
        item: &JobOperationItem,
        result: ItemResult,
        by: JobId,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let outcome = to_bson(&result.outcome())?;
        let mut set = doc! { "outcome": &outcome, "at": now };
        match result {
            ItemResult::Done(Some(job)) => {
                set.insert("newJobId", job);
            }
            ItemResult::Left(reason) => {
                set.insert("reason", to_bson(&reason)?);
            }
            ItemResult::Done(None) => {}
        }
        let pending = doc! { "_id": item.id, "outcome": to_bson(&ItemOutcome::Pending)? };
        let settled = self
            .items
            .update_one(pending, doc! { "$set": set })
            .session(&mut *session)
            .await?;
        if settled.matched_count == 0 {
            return Ok(false);
        }
        let counter = outcome.as_str().unwrap_or_default();
        let count = doc! { "$inc": { counter: 1_i64 }, "$set": { "jobId": by } };
        self.operations
            .update_one(doc! { "_id": item.operation_id }, count)
            .session(session)
            .await?;
        Ok(true)
    }

    /// Marks the operation as finished.
    pub async fn finish(&self, id: JobOperationId, now: DateTime) -> Result<(), StoreError> {
        let unfinished = doc! { "_id": id, "finishedAt": { "$exists": false } };
        self.operations
            .update_one(unfinished, doc! { "$set": { "finishedAt": now } })
            .await?;
        Ok(())
    }
}
