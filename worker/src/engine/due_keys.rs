//! The search for due work in MongoDB, behind the sweep and the fetch loops without Redis.
//!
//! Due jobs are read in the order of their times, from an index that holds nothing else: the cost depends on the number
//! of due jobs, not on those that wait for later, which after a fan-out are a day's worth of jobs.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use bson::{DateTime, Document, doc};
use dezky_shared::{
    queue::{
        job::{JobState, Queue},
        priority::Priority,
        ready_set::ReadyKey,
    },
    store::{
        Store, StoreError,
        jobs::{DUE_INDEX, LOCK_INDEX},
    },
};
use futures::TryStreamExt as _;
use mongodb::{Collection, options::Hint};
use rand::seq::SliceRandom as _;

/// The most due jobs read by one query, within about ten milliseconds.
const WINDOW: usize = 10_000;
/// The most queries of one listing: a tenant's 100,000 jobs at the head hold up the keys behind them for two listings.
const WINDOWS: usize = 5;
/// Of how many times as many jobs a sample is taken, so that concurrent ones rarely find the same.
const SAMPLED: usize = 16;
/// Of this many samples one begins with the least urgent lane, so that a flood of urgent work does not starve it.
const LOWEST_FIRST: u32 = 8;

/// Lists lock keys that have due work.
#[derive(Clone)]
pub(super) struct DueKeys {
    store: Arc<Store>,
    jobs: Collection<Document>,
}

/// The position of a scan over the due jobs of one lane, which starts over at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor(Option<DueJob>);

/// A due job, as the index has it.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct DueJob {
    run_at: DateTime,
    lock_key: String,
}

impl DueKeys {
    pub(super) fn new(store: &Arc<Store>) -> Self {
        Self {
            jobs: store.collection("jobs"),
            store: store.clone(),
        }
    }

    /// At most `limit` lock keys with due work in a lane of `queue` and no running job, from the cursor on.
    pub(super) async fn list(
        &self,
        queue: Queue,
        priority: Priority,
        cursor: &mut Cursor,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let window = (2 * limit).min(WINDOW);
        let mut found = HashSet::new();
        let mut keys = Vec::new();
        for _ in 0..WINDOWS {
            let due = self.read(queue, priority, cursor, window).await?;
            let is_last = due.len() < window;
            for job in due {
                if keys.len() == limit {
                    return self.without_running(keys).await;
                }
                if found.insert(job.lock_key.clone()) {
                    keys.push(ReadyKey {
                        lock_key: job.lock_key.clone(),
                        priority,
                    });
                }
                *cursor = Cursor(Some(job));
            }
            if is_last {
                *cursor = Cursor::default();
                break;
            }
        }
        self.without_running(keys).await
    }

    /// At most `count` lock keys with due work in `queue` and no running job: random ones of those that have been due for
    /// the longest, in the more urgent lanes first. Where these are too few, because one lock key has most of the jobs,
    /// further ones from the lane's cursor on.
    pub(super) async fn sample(
        &self,
        queue: Queue,
        lowest: Priority,
        cursors: &mut BTreeMap<Priority, Cursor>,
        count: usize,
    ) -> Result<Vec<String>, StoreError> {
        let mut lanes: Vec<Priority> = lowest.and_above().collect();
        if rand::random_ratio(1, LOWEST_FIRST) {
            lanes.rotate_right(1);
        }
        let mut sample = Vec::new();
        for priority in lanes {
            let mut head = Cursor::default();
            let mut keys = self
                .list(queue, priority, &mut head, SAMPLED * count)
                .await?;
            let is_all = head.0.is_none();
            if sample.len() + keys.len() < count && !is_all {
                let cursor = cursors.entry(priority).or_default();
                keys.extend(self.list(queue, priority, cursor, WINDOW / 2).await?);
            }
            keys.shuffle(&mut rand::rng());
            sample.extend(keys.into_iter().map(|key| key.lock_key));
            if sample.len() >= count {
                sample.truncate(count);
                break;
            }
        }
        Ok(sample)
    }

    /// At most `limit` due jobs of a lane after the cursor, longest due first.
    async fn read(
        &self,
        queue: Queue,
        priority: Priority,
        cursor: &Cursor,
        limit: usize,
    ) -> Result<Vec<DueJob>, StoreError> {
        let now = self.store.now();
        let Some(DueJob { run_at, lock_key }) = &cursor.0 else {
            let from_start = doc! { "runAt": { "$lte": now }, "lockKey": { "$gte": "" } };
            return self.find(queue, priority, from_start, limit).await;
        };
        // Jobs of one fan-out may be due at the same instant, so its time alone is not a position.
        let same_time = doc! { "runAt": run_at, "lockKey": { "$gt": lock_key } };
        let mut found = self.find(queue, priority, same_time, limit).await?;
        if found.len() < limit {
            let later = doc! { "runAt": { "$gt": run_at, "$lte": now }, "lockKey": { "$gte": "" } };
            found.extend(
                self.find(queue, priority, later, limit - found.len())
                    .await?,
            );
        }
        Ok(found)
    }

    /// Covered by the index. Both ranges also exclude values of another type: a job with such a value stops no other.
    async fn find(
        &self,
        queue: Queue,
        priority: Priority,
        when: Document,
        limit: usize,
    ) -> Result<Vec<DueJob>, StoreError> {
        let mut due = doc! {
            "queue": queue.name(),
            "state": JobState::Available.name(),
            "priority": priority,
        };
        due.extend(when);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.jobs
            .clone_with_type()
            .find(due)
            .sort(doc! { "runAt": 1, "lockKey": 1 })
            .projection(doc! { "runAt": 1, "lockKey": 1, "_id": 0 })
            .hint(Hint::Name(DUE_INDEX.to_owned()))
            .limit(limit)
            .batch_size(u32::try_from(limit).unwrap_or(u32::MAX))
            .await?
            .try_collect()
            .await
    }

    async fn without_running(&self, keys: Vec<ReadyKey>) -> Result<Vec<ReadyKey>, StoreError> {
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Running {
            lock_key: String,
        }
        if keys.is_empty() {
            return Ok(keys);
        }
        let names: Vec<&str> = keys.iter().map(|key| key.lock_key.as_str()).collect();
        let running: Vec<Running> = self
            .jobs
            .clone_with_type()
            .find(doc! { "state": JobState::Running.name(), "lockKey": { "$in": names } })
            .projection(doc! { "lockKey": 1, "_id": 0 })
            .hint(Hint::Name(LOCK_INDEX.to_owned()))
            .await?
            .try_collect()
            .await?;
        let running: HashSet<String> = running.into_iter().map(|job| job.lock_key).collect();
        Ok(keys
            .into_iter()
            .filter(|key| !running.contains(&key.lock_key))
            .collect())
    }
}
