//! Worker repository: heartbeats of the worker processes.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{DateTime, doc};
use futures::TryStreamExt as _;
use mongodb::{Collection, IndexModel, options::IndexOptions};
use serde::{Deserialize, Serialize};

use super::{Store, StoreError, lenient::skip_undecodable, to_document};
use crate::{id::WorkerId, platform::clock, queue::job::Queue};

/// Interval of heartbeats.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// Time without a heartbeat after which a worker counts as dead.
pub const DEAD_AFTER: Duration = Duration::from_secs(20);
/// Time for which a dead worker is still listed.
const LISTED: Duration = Duration::from_mins(15);

/// Worker process, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Worker {
    /// Id, new for each process.
    #[serde(rename = "_id")]
    pub id: WorkerId,
    /// Name in logs and leases.
    pub name: String,
    /// Host name.
    pub host: String,
    /// Number of concurrent jobs in each queue.
    pub slots: BTreeMap<Queue, i64>,
    /// Job kinds that it handles.
    pub kinds: Vec<String>,
    /// Start time.
    pub started_at: DateTime,
    /// Time of the last heartbeat.
    pub seen_at: DateTime,
    /// Whether it is draining and claims no more jobs.
    pub stopping: bool,
}

impl Worker {
    /// Whether the last heartbeat is recent.
    pub fn is_alive(&self, now: DateTime) -> bool {
        clock::until(self.seen_at, now) < DEAD_AFTER
    }

    /// Whether it claims jobs of this queue.
    pub fn serves(&self, queue: Queue, now: DateTime) -> bool {
        self.is_alive(now) && !self.stopping && self.slots.contains_key(&queue)
    }

    /// Whether it handles jobs of this kind.
    pub fn handles(&self, kind: &str) -> bool {
        self.kinds.iter().any(|known| known == kind)
    }
}

/// Workers.
#[derive(Debug, Clone)]
pub struct WorkerRepository {
    workers: Collection<Worker>,
}

impl WorkerRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            workers: store.collection("workers"),
        }
    }

    /// Creates the indexes.
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

    /// Lists live workers, and recently dead ones. Skips those of a newer build with a queue of its own.
    pub async fn list(&self) -> Result<Vec<Worker>, StoreError> {
        let workers = self.workers.clone_with_type();
        let workers = workers.find(doc! {}).sort(doc! { "_id": 1 });
        skip_undecodable(workers.await?).try_collect().await
    }

    /// Stores a worker's heartbeat.
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

    /// Deletes a worker that shut down.
    pub async fn remove(&self, id: WorkerId) -> Result<(), StoreError> {
        self.workers.delete_one(doc! { "_id": id }).await?;
        Ok(())
    }
}
