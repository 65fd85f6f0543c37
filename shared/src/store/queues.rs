//! Queue repository: pauses and backlog statistics.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{
    ClientSession, Collection,
    options::{Hint, ReturnDocument},
};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    jobs::{DUE_INDEX, LEASE_INDEX},
    to_bson,
};
use crate::queue::{
    job::{JobState, Queue},
    pause::Pause,
    priority::Priority,
};

/// Limit on counted jobs: counting a million for a status page would load the database.
pub const COUNT_LIMIT: u64 = 100_000;
/// Time limit of counting.
const COUNTING: Duration = Duration::from_secs(2);

/// Control state of a queue, read by all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueControl {
    /// The queue.
    #[serde(rename = "_id")]
    pub queue: Queue,
    /// Pause, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Incremented by every change of an operator.
    #[serde(default)]
    pub revision: i64,
}

/// Statistics of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Due jobs, at most [`COUNT_LIMIT`].
    pub due: u64,
    /// Jobs scheduled for later, at most [`COUNT_LIMIT`].
    pub scheduled: u64,
    /// Running jobs.
    pub running: u64,
    /// Due time of the job that has been due the longest.
    pub oldest_due: Option<DateTime>,
}

/// Queues.
#[derive(Debug, Clone)]
pub struct QueueRepository {
    queues: Collection<QueueControl>,
    jobs: Collection<Document>,
}

impl QueueRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            queues: store.collection("queues"),
            jobs: store.collection("jobs"),
        }
    }

    /// Paused queues among those of this build.
    pub async fn paused(&self) -> Result<BTreeSet<Queue>, StoreError> {
        let names = Queue::ALL.map(Queue::name).to_vec();
        let paused = doc! { "_id": { "$in": names }, "paused": { "$exists": true } };
        let found = self.queues.find(paused).await?;
        found.map_ok(|control| control.queue).try_collect().await
    }

    /// Control state of one queue.
    pub async fn find(&self, queue: Queue) -> Result<QueueControl, StoreError> {
        let found = self.queues.find_one(doc! { "_id": queue.name() }).await?;
        Ok(found.unwrap_or(QueueControl {
            queue,
            paused: None,
            revision: 0,
        }))
    }

    /// Pauses a queue, or resumes it if `pause` is `None`.
    pub async fn set_pause(
        &self,
        session: &mut ClientSession,
        queue: Queue,
        pause: Option<&Pause>,
    ) -> Result<QueueControl, StoreError> {
        let mut update = if let Some(pause) = pause {
            doc! { "$set": { "paused": to_bson(pause)? } }
        } else {
            doc! { "$unset": { "paused": "" } }
        };
        update.insert("$inc", doc! { "revision": 1_i64 });
        let changed = self
            .queues
            .find_one_and_update(doc! { "_id": queue.name() }, update)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?;
        changed.ok_or_else(|| StoreError::custom("an upsert returned nothing"))
    }

    /// Ends a pause whose end has passed. `false` if there is none.
    pub async fn end_pause(
        &self,
        session: &mut ClientSession,
        queue: Queue,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let over = doc! { "_id": queue.name(), "paused.until": { "$lte": now } };
        let resumed = doc! { "$unset": { "paused": "" }, "$inc": { "revision": 1_i64 } };
        let ended = self.queues.update_one(over, resumed).session(session);
        Ok(ended.await?.modified_count == 1)
    }

    /// Statistics of `queue` at `now`.
    pub async fn stats(&self, queue: Queue, now: DateTime) -> Result<QueueStats, StoreError> {
        let (due, later) = (
            waiting(queue, doc! { "$lte": now }),
            waiting(queue, doc! { "$gt": now }),
        );
        let running = doc! { "queue": queue.name(), "state": JobState::Running.name() };
        let oldest = self
            .jobs
            .find_one(due.clone())
            .sort(doc! { "runAt": 1 })
            .projection(doc! { "runAt": 1 })
            .hint(Hint::Name(DUE_INDEX.to_owned()));
        let (due, scheduled, running, oldest) = futures::try_join!(
            self.count(due, DUE_INDEX),
            self.count(later, DUE_INDEX),
            self.count(running, LEASE_INDEX),
            async { oldest.await },
        )?;
        Ok(QueueStats {
            due,
            scheduled,
            running,
            oldest_due: oldest.and_then(|job| job.get_datetime("runAt").ok().copied()),
        })
    }

    /// Number of due jobs of `queue` at `now`, at most [`COUNT_LIMIT`].
    pub async fn count_due(&self, queue: Queue, now: DateTime) -> Result<u64, StoreError> {
        let due = waiting(queue, doc! { "$lte": now });
        self.count(due, DUE_INDEX).await
    }

    async fn count(&self, filter: Document, index: &str) -> Result<u64, StoreError> {
        self.jobs
            .count_documents(filter)
            .limit(COUNT_LIMIT)
            .max_time(COUNTING)
            .hint(Hint::Name(index.to_owned()))
            .await
    }
}

/// Filter of the jobs that wait in a queue, by their due times.
fn waiting(queue: Queue, due: Document) -> Document {
    doc! {
        "queue": queue.name(),
        "state": JobState::Available.name(),
        // Every lane, so that the index bounds the times.
        "priority": { "$in": Priority::ALL.map(Bson::from).to_vec() },
        "runAt": due,
    }
}
