//! The guarantee beneath the hints: due keys that the ready set does not hold are found and added.
//!
//! What a look costs follows from what is due, not from what waits for later, which after a fan-out is a day's worth:
//! few due jobs are read as they stand in the order of their times. A backlog is stepped through key by key instead,
//! so that one tenant's 100,000 jobs cost one step.

use bson::{Document, doc};
use dezky_shared::{
    id::TenantId,
    queue::{
        job::{JobState, Queue},
        ready_set::ReadyKey,
    },
    store::{
        StoreError,
        jobs::{CLAIM_INDEX, DUE_INDEX},
    },
};
use futures::TryStreamExt as _;
use mongodb::options::Hint;

use super::{Engine, claim::first_due};
use crate::metrics;

/// How many keys the sweep keeps in a ready set.
const TOP_UP_TO: u64 = 5_000;
/// How many due jobs are read one by one, in some ten milliseconds.
const FEW: i64 = 5_000;

/// Where a look at the distinct due keys goes on, wrapping at the end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cursor {
    after: String,
}

impl Cursor {
    /// A random place, so that several who look do not all look at the same keys.
    pub(crate) fn random() -> Self {
        let mut id = TenantId::new().bytes();
        // Ids begin with the time they were made; most tenants are from the last years.
        let age = rand::random_range(0..1_u64 << 37);
        let made = u64::from_be_bytes([0, 0, id[0], id[1], id[2], id[3], id[4], id[5]])
            .saturating_sub(age);
        id[..6].copy_from_slice(&made.to_be_bytes()[2..]);
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

impl Engine {
    /// Tops up the ready set of each queue that is not paused. Run by the leader, once a second.
    pub(crate) async fn sweep(&self, cursors: &mut [(Queue, Cursor)]) -> Result<(), StoreError> {
        for (queue, cursor) in cursors {
            if self.is_paused(*queue) {
                continue;
            }
            // Without Redis the queues look for themselves.
            let Ok(length) = self.ctx.ready.len(*queue).await else {
                return Ok(());
            };
            let room = usize::try_from(TOP_UP_TO.saturating_sub(length)).unwrap_or(0);
            if room > 0 {
                let keys = self.due_keys(*queue, cursor, room).await?;
                if let Ok(missing) = self.ctx.ready.add(*queue, &keys).await {
                    metrics::swept(*queue, missing);
                }
            }
        }
        Ok(())
    }

    /// At most `limit` lock keys with due work in `queue` and no job running, from the cursor on, wrapping.
    pub(crate) async fn due_keys(
        &self,
        queue: Queue,
        cursor: &mut Cursor,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let found = match self.due_keys_if_few(queue).await? {
            Some(mut keys) => {
                let before = keys.partition_point(|key| key.lock_key <= cursor.after);
                keys.rotate_left(before);
                keys.truncate(limit);
                keys
            }
            None => self.due_keys_of_many(queue, &cursor.after, limit).await?,
        };
        cursor.after = match found.last() {
            Some(last) if found.len() == limit => last.lock_key.clone(),
            _ => String::new(),
        };
        self.without_running(found).await
    }

    /// The lock keys of everything that is due, in order, unless that is more than a few jobs.
    async fn due_keys_if_few(&self, queue: Queue) -> Result<Option<Vec<ReadyKey>>, StoreError> {
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
                "runAt": { "$lte": self.ctx.store.now() },
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
            .clone_with_type::<Document>()
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

    async fn due_keys_of_many(
        &self,
        queue: Queue,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let mut found = self.due_keys_after(queue, after, limit).await?;
        if found.len() < limit && !after.is_empty() {
            let from_the_start = self.due_keys_after(queue, "", limit - found.len()).await?;
            // Those after the cursor stand in `found` already.
            found.extend(
                from_the_start
                    .into_iter()
                    .take_while(|key| key.lock_key.as_str() <= after),
            );
        }
        Ok(found)
    }

    async fn due_keys_after(
        &self,
        queue: Queue,
        after: &str,
        limit: usize,
    ) -> Result<Vec<ReadyKey>, StoreError> {
        let mut due = first_due(queue, doc! { "$gt": after }.into(), self.ctx.store.now());
        // The index gives each key once and in order, so nothing is read beyond the last that is wanted.
        due.push(doc! { "$limit": i64::try_from(limit).unwrap_or(i64::MAX) });
        let found: Vec<DueKey> = self
            .jobs
            .clone_with_type::<Document>()
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
        let running: std::collections::HashSet<String> =
            running.into_iter().map(|job| job.lock_key).collect();
        Ok(keys
            .into_iter()
            .filter(|key| !running.contains(&key.lock_key))
            .collect())
    }
}
