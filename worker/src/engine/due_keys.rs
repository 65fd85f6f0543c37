//! The search for due work in MongoDB, behind the sweep and the fetch loops without Redis.
//!
//! Its cost depends on what is due, not on what waits for later, which after a fan-out is a day's worth of jobs. A few due
//! jobs are read in the order of their times. A backlog is scanned key by key instead, so that a tenant's 100,000 jobs
//! cost one step.

use std::{collections::HashSet, sync::Arc};

use bson::{Document, doc};
use dezky_shared::{
    id::TenantId,
    queue::{
        job::{JobState, Queue},
        ready_set::ReadyKey,
    },
    store::{
        Store, StoreError,
        jobs::{CLAIM_INDEX, DUE_INDEX},
    },
};
use futures::TryStreamExt as _;
use mongodb::{Collection, options::Hint};

use super::claim::first_due;

/// How many due jobs are read one by one, within about ten milliseconds.
const FEW: i64 = 5_000;

/// Lists lock keys that have due work.
#[derive(Clone)]
pub(super) struct DueKeys {
    store: Arc<Store>,
    jobs: Collection<Document>,
}

/// The position of a scan over the distinct due keys, which wraps at the end.
#[derive(Debug, Clone, Default)]
pub(super) struct Cursor {
    after: String,
}

impl Cursor {
    /// A random position, so that concurrent scans do not find the same keys.
    pub(super) fn random() -> Self {
        let mut id = TenantId::new().bytes();
        // Ids begin with their creation time; most tenants are a few years old at most.
        let age = rand::random_range(0..1_u64 << 37);
        let created = u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]])
            .saturating_sub(age);
        id[..6].copy_from_slice(&created.to_be_bytes()[2..]);
        Self {
            after: format!("tenant:{}", TenantId::from_bytes(id)),
        }
    }
}

#[derive(Debug, serde::Deserialize)]
struct DueKey {
    #[serde(rename = "_id")]
    lock_key: String,
    priority: i32,
}

impl From<DueKey> for ReadyKey {
    fn from(key: DueKey) -> Self {
        Self {
            lock_key: key.lock_key,
            priority: key.priority,
        }
    }
}

impl DueKeys {
    pub(super) fn new(store: &Arc<Store>) -> Self {
        Self {
            jobs: store.collection("jobs"),
            store: store.clone(),
        }
    }

    /// At most `limit` lock keys with due work in `queue` and no running job, from the cursor on, wrapping.
    pub(super) async fn list(
        &self,
        queue: Queue,
        cursor: &mut Cursor,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let found = match self.list_if_few(queue).await? {
            Some(mut keys) => {
                let before = keys.partition_point(|key| key.lock_key <= cursor.after);
                keys.rotate_left(before);
                keys.truncate(limit);
                keys
            }
            None => self.list_distinct(queue, &cursor.after, limit).await?,
        };
        cursor.after = match found.last() {
            Some(last) if found.len() == limit => last.lock_key.clone(),
            _ => String::new(),
        };
        self.without_running(found).await
    }

    /// All due lock keys, in order. `None` if more than a few jobs are due.
    async fn list_if_few(&self, queue: Queue) -> Result<Option<Vec<ReadyKey>>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Counted {
            #[serde(flatten)]
            key: DueKey,
            jobs: i64,
        }
        let due = [
            doc! { "$match": {
                "queue": queue.name(),
                "state": JobState::Available.name(),
                "runAt": { "$lte": self.store.now() },
            } },
            doc! { "$limit": FEW + 1 },
            doc! { "$group": {
                "_id": "$lockKey",
                "priority": { "$min": "$priority" },
                "jobs": { "$sum": 1_i64 },
            } },
            doc! { "$sort": { "_id": 1 } },
        ];
        let found: Vec<Counted> = self
            .jobs
            .aggregate(due)
            .hint(Hint::Name(DUE_INDEX.to_owned()))
            .with_type()
            .await?
            .try_collect()
            .await?;
        let jobs: i64 = found.iter().map(|counted| counted.jobs).sum();
        let keys = || {
            found
                .into_iter()
                .map(|counted| counted.key.into())
                .collect()
        };
        Ok((jobs <= FEW).then(keys))
    }

    async fn list_distinct(
        &self,
        queue: Queue,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let mut found = self.list_after(queue, after, limit).await?;
        if found.len() < limit && !after.is_empty() {
            let wrapped = self.list_after(queue, "", limit - found.len()).await?;
            // Those after the cursor are in `found` already.
            found.extend(
                wrapped
                    .into_iter()
                    .take_while(|key| key.lock_key.as_str() <= after),
            );
        }
        Ok(found)
    }

    async fn list_after(
        &self,
        queue: Queue,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let mut due = first_due(queue, doc! { "$gt": after }.into(), self.store.now());
        // The index yields each key once and in order, so the scan ends with the last key.
        due.push(doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX) });
        let found: Vec<DueKey> = self
            .jobs
            .aggregate(due)
            .hint(Hint::Name(CLAIM_INDEX.to_owned()))
            .with_type()
            .await?
            .try_collect()
            .await?;
        Ok(found.into_iter().map(ReadyKey::from).collect())
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
