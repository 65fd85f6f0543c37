//! The queues themselves: whether a person stopped one, and how much waits in it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{
    ClientSession, Collection,
    options::{Hint, ReturnDocument},
};
use serde::{Deserialize, Serialize};

use super::{
    Store, StoreError,
    jobs::{CLAIM_INDEX, DUE_INDEX},
    to_bson,
};
use crate::queue::{
    job::{JobState, Queue},
    pause::Pause,
};

/// The most jobs that are counted: counting a million would keep the database busy for somebody who looks.
pub const COUNT_LIMIT: u64 = 100_000;
/// How long counting may take.
const COUNTING: Duration = Duration::from_secs(2);

/// What all workers know about one queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueControl {
    /// Which one.
    #[serde(rename = "_id")]
    pub queue: Queue,
    /// Who stopped it, while it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// + 1 with every change by a person.
    #[serde(default)]
    pub revision: i64,
}

/// How much waits in a queue and runs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueStats {
    /// Jobs that are due, at most [`COUNT_LIMIT`].
    pub due: u64,
    /// Jobs that wait for their time, at most [`COUNT_LIMIT`].
    pub scheduled: u64,
    /// Jobs that run.
    pub running: u64,
    /// Since when the one that waits longest is due.
    pub oldest_due: Option<DateTime>,
}

/// The queues.
#[derive(Debug, Clone)]
pub struct QueueRepository {
    queues: Collection<QueueControl>,
    jobs: Collection<Document>,
}

impl QueueRepository {
    /// The queues in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            queues: store.collection("queues"),
            jobs: store.collection("jobs"),
        }
    }

    /// Those that are stopped.
    pub async fn paused(&self) -> Result<BTreeSet<Queue>, StoreError> {
        let paused: Vec<QueueControl> = self
            .queues
            .find(doc! { "paused": { "$exists": true } })
            .await?
            .try_collect()
            .await?;
        Ok(paused.into_iter().map(|control| control.queue).collect())
    }

    /// What is known about one.
    pub async fn find(&self, queue: Queue) -> Result<QueueControl, StoreError> {
        let found = self.queues.find_one(doc! { "_id": queue.name() }).await?;
        Ok(found.unwrap_or(QueueControl {
            queue,
            paused: None,
            revision: 0,
        }))
    }

    /// Stops it, or, without a pause, has it go on.
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

    /// How much waits in `queue` and runs in it at `now`.
    pub async fn stats(&self, queue: Queue, now: DateTime) -> Result<QueueStats, StoreError> {
        let waiting = |when: Document| {
            doc! { "queue": queue.name(), "state": JobState::Available.name(), "runAt": when }
        };
        let (due, later) = (waiting(doc! { "$lte": now }), waiting(doc! { "$gt": now }));
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
            self.count(running, CLAIM_INDEX),
            async { oldest.await },
        )?;
        Ok(QueueStats {
            due,
            scheduled,
            running,
            oldest_due: oldest.and_then(|job| job.get_datetime("runAt").ok().copied()),
        })
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
