//! Notification of the ready sets: the lock keys that have more due work, and wake-ups of jobs that run again soon.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    platform::clock,
    queue::{
        job::Queue,
        priority::Priority,
        ready_set::{ReadyKey, ReadySet},
    },
    store::{Store, StoreError, skip_undecodable},
};
use futures::TryStreamExt as _;
use mongodb::Collection;
use tokio_util::sync::CancellationToken;

use super::{EngineTimings, bulk, claim::first_due};

/// Adds lock keys to the ready sets.
pub(super) struct ReadyNotifier {
    store: Arc<Store>,
    jobs: Collection<Document>,
    ready: ReadySet,
    timeout: Duration,
    wakeup_horizon: Duration,
    stop: CancellationToken,
}

#[derive(serde::Deserialize)]
struct DueKey {
    #[serde(rename = "_id")]
    lock_key: String,
    priority: Priority,
    queue: Queue,
}

impl ReadyNotifier {
    pub(super) fn new(
        store: &Arc<Store>,
        ready: &ReadySet,
        times: &EngineTimings,
        stop: &CancellationToken,
    ) -> Self {
        Self {
            jobs: store.collection("jobs"),
            store: store.clone(),
            ready: ready.clone(),
            timeout: times.bulk_deadline,
            wakeup_horizon: times.wakeup_horizon,
            stop: stop.clone(),
        }
    }

    /// Adds those of `keys` that have due work to the ready set of every queue that has it.
    pub(super) async fn notify_due(&self, keys: Vec<String>) -> Result<(), StoreError> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut by_queue: BTreeMap<Queue, Vec<ReadyKey>> = BTreeMap::new();
        for due in self.find_due(&keys).await? {
            let key = ReadyKey {
                lock_key: due.lock_key,
                priority: due.priority,
            };
            by_queue.entry(due.queue).or_default().push(key);
        }
        // Random order: the queue that receives a key first usually gets its lock.
        let mut by_queue: Vec<_> = by_queue.into_iter().collect();
        let first = rand::random_range(0..by_queue.len().max(1));
        by_queue.rotate_left(first);
        for (queue, keys) in by_queue {
            // A hint: without Redis the fetch loops query MongoDB.
            let _ = self.ready.add(queue, &keys).await;
        }
        Ok(())
    }

    /// The first due job of each key in each queue, by one query.
    async fn find_due(&self, keys: &[String]) -> Result<Vec<DueKey>, StoreError> {
        let now = self.store.now();
        let branch = |queue: Queue| {
            let mut stages = first_due(queue, doc! { "$in": keys }.into(), now);
            stages.push(doc! { "$set": { "queue": queue.name() } });
            stages
        };
        let (first, others) = (Queue::ALL[0], &Queue::ALL[1..]);
        let mut pipeline = branch(first);
        pipeline.extend(
            others
                .iter()
                .map(|queue| doc! { "$unionWith": { "coll": "jobs", "pipeline": branch(*queue) } }),
        );
        bulk::with_timeout(self.timeout, async {
            let found = self.jobs.aggregate(pipeline).await?;
            skip_undecodable(found).try_collect().await
        })
        .await
    }

    /// Adds `key` at `at`, if that is within the wake-up horizon. Later ones are left to the sweep.
    pub(super) fn schedule_wakeup(&self, queue: Queue, key: ReadyKey, at: DateTime) {
        let wait = clock::until(self.store.now(), at);
        if wait > self.wakeup_horizon {
            return;
        }
        let (ready, stop) = (self.ready.clone(), self.stop.clone());
        tokio::spawn(async move {
            // A little late rather than early: a key popped before its job is due is dropped.
            let due = tokio::time::sleep(wait + Duration::from_millis(2));
            if stop.run_until_cancelled(due).await.is_some() {
                let _ = ready.add(queue, &[key]).await;
            }
        });
    }
}
