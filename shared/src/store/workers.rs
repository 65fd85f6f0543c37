//! The workers that live, as each says of itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::{Collection, IndexModel, options::IndexOptions};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, to_document};
use crate::{id::WorkerId, platform::clock, queue::job::Queue};

/// How often a worker says that it lives.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// After how long a worker that is not heard of counts as gone.
pub const DEAD_AFTER: Duration = Duration::from_secs(20);
/// How long one that is gone is still listed.
const LISTED: Duration = Duration::from_mins(15);

/// A worker process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Its id, new with each start.
    #[serde(rename = "_id")]
    pub id: WorkerId,
    /// What it is called in logs and leases.
    pub name: String,
    /// The machine it runs on.
    pub host: String,
    /// How many jobs of each queue it runs at a time.
    pub slots: BTreeMap<Queue, i64>,
    /// The kinds of jobs that it knows.
    pub kinds: Vec<String>,
    /// When it started.
    pub started_at: DateTime,
    /// When it last said that it lives.
    pub seen_at: DateTime,
    /// Whether it takes no more jobs.
    pub stopping: bool,
}

impl Worker {
    /// Whether it was heard of lately.
    pub fn is_alive(&self, now: DateTime) -> bool {
        clock::until(self.seen_at, now) < DEAD_AFTER
    }

    /// Whether it takes jobs of this queue.
    pub fn serves(&self, queue: Queue, now: DateTime) -> bool {
        self.is_alive(now) && !self.stopping && self.slots.contains_key(&queue)
    }

    /// Whether it knows what a job of this kind does.
    pub fn handles(&self, kind: &str) -> bool {
        self.kinds.iter().any(|known| known == kind)
    }
}

/// The workers.
#[derive(Debug, Clone)]
pub struct WorkerRepository {
    workers: Collection<Worker>,
}

impl WorkerRepository {
    /// The workers in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            workers: store.collection("workers"),
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let forgotten = IndexOptions::builder()
            .name("forgotten".to_owned())
            .expire_after(LISTED)
            .build();
        let forgotten = IndexModel::builder()
            .keys(doc! { "seenAt": 1 })
            .options(forgotten)
            .build();
        self.workers.create_indexes([forgotten]).await?;
        Ok(())
    }

    /// All that live, and those that vanished a little while ago.
    pub async fn list(&self) -> Result<Vec<Worker>, StoreError> {
        self.workers
            .find(doc! {})
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await
    }

    /// Says that a worker lives.
    pub async fn heartbeat(&self, worker: &Worker) -> Result<(), StoreError> {
        let mut set = to_document(worker)?;
        set.remove("_id");
        set.remove("seenAt");
        let lives = doc! { "$set": set, "$currentDate": { "seenAt": true } };
        self.workers
            .update_one(doc! { "_id": worker.id }, lives)
            .upsert(true)
            .await?;
        Ok(())
    }

    /// Says that a worker ended as it should.
    pub async fn remove(&self, id: WorkerId) -> Result<(), StoreError> {
        self.workers.delete_one(doc! { "_id": id }).await?;
        Ok(())
    }
}
