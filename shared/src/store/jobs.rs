//! Job repository: enqueueing, queries and cancellation. The engine has its own queries for claiming and settling.

mod bulk_select;
mod cancel;
mod children;
mod enqueue;
mod indexes;

use std::{sync::Arc, time::Duration};

use bson::{DateTime, Document, doc};
use futures::{StreamExt as _, TryStreamExt as _, future::try_join_all};
use mongodb::{ClientSession, Collection, action::Action as _, options::Hint};

pub use self::{
    cancel::{CancelError, Cancelled, RequeueError, Requeued},
    indexes::{
        CLAIM_INDEX, DUE_INDEX, HELD_INDEX, LEASE_INDEX, LOCK_INDEX, UNIQUE_INDEX, WAITING_INDEX,
    },
};
use super::{
    Store, StoreError, lenient::skip_undecodable, linearizable::find_one_linearizable,
    revisions::revisions, tenants::TenantRepository, to_bson,
};
pub use crate::queue::new_job::{NewJob, job_lock_key};
use crate::{
    id::{JobId, LeaseToken, TenantId},
    queue::job::{Job, JobState, Progress},
};

/// Limit on the jobs counted ahead of another.
const AHEAD_LIMIT: u64 = 1_000;
/// The most tenants whose jobs are merged in a list: MongoDB merges at most 200 scans.
const MERGED_TENANTS: usize = 100;
/// Time limit of a list.
const LISTING: Duration = Duration::from_secs(5);

/// Jobs.
#[derive(Debug, Clone)]
pub struct JobRepository {
    tenants: TenantRepository,
    jobs: Collection<Job>,
}

/// Filter of a job list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// About one of these tenants; all jobs if missing.
    pub tenants: Option<Vec<TenantId>>,
    /// In this state.
    pub state: Option<JobState>,
    /// Of this kind.
    pub kind: Option<String>,
    /// Created by this parent job.
    pub parent: Option<JobId>,
    /// Whether a step changed something upstream, or would in a dry run.
    pub changed: Option<bool>,
    /// Before this id (page cursor).
    pub before: Option<JobId>,
}

impl JobRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            tenants: TenantRepository::new(store),
            jobs: store.collection("jobs"),
        }
    }

    /// The job with this id.
    pub async fn find(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        find_one_linearizable(&self.jobs, doc! { "_id": id }).await
    }

    /// At most `limit` jobs that match `filter`, newest first. Fails with a timeout if the indexes do not narrow the
    /// filter enough.
    pub async fn list(&self, filter: &JobFilter, limit: i64) -> Result<Vec<Job>, StoreError> {
        let mut query = Document::new();
        if let Some(tenants) = &filter.tenants {
            query.insert("tenantId", doc! { "$in": tenants.clone() });
        }
        if let Some(state) = filter.state {
            query.insert("state", state.name());
        } else if filter.kind.is_some() || filter.parent.is_some() {
            // Every state, so that the index yields the order.
            query.insert(
                "state",
                doc! { "$in": JobState::ALL.map(JobState::name).to_vec() },
            );
        }
        if let Some(kind) = &filter.kind {
            query.insert("kind", kind);
        }
        if let Some(parent) = filter.parent {
            query.insert("parent", parent);
        }
        if let Some(changed) = filter.changed {
            query.insert("steps.changes.0", doc! { "$exists": changed });
        }
        if let Some(before) = filter.before {
            query.insert("_id", doc! { "$lt": before });
        }
        // The jobs of a few tenants are merged from the scans of their indexes; those of many are found by reading all jobs,
        // newest first.
        let tenants = filter.tenants.as_ref().map_or(0, Vec::len);
        let hint = (tenants > MERGED_TENANTS).then(|| Hint::Keys(doc! { "_id": 1 }));
        // Without a limit, so that a document that is skipped does not end the list.
        let found = self
            .jobs
            .clone_with_type()
            .find(query)
            .sort(doc! { "_id": -1 })
            .batch_size(u32::try_from(limit).unwrap_or(u32::MAX))
            .max_time(LISTING)
            .optional(hint, mongodb::action::Find::hint)
            .await?;
        let limit = usize::try_from(limit).unwrap_or_default();
        skip_undecodable(found).take(limit).try_collect().await
    }

    /// The running job that holds this lock.
    pub async fn find_holder(&self, lock_key: &str) -> Result<Option<Job>, StoreError> {
        let holder = doc! { "lockKey": lock_key, "state": JobState::Running.name() };
        self.jobs.find_one(holder).await
    }

    /// Number of due jobs of its queue that are served before `job`, counted up to `AHEAD_LIMIT`: those of a more urgent
    /// priority, and those of its own that have been due for longer.
    pub async fn count_ahead(&self, job: &Job, now: DateTime) -> Result<u64, StoreError> {
        let lanes = job.priority.and_above().map(|priority| {
            let until = if priority == job.priority {
                doc! { "$lt": job.run_at.min(now) }
            } else {
                doc! { "$lte": now }
            };
            let ahead = doc! {
                "queue": job.queue.name(),
                "state": JobState::Available.name(),
                "priority": priority,
                "runAt": until,
            };
            self.jobs
                .count_documents(ahead)
                .hint(Hint::Name(DUE_INDEX.to_owned()))
                .limit(AHEAD_LIMIT)
                .into_future()
        });
        let counts = try_join_all(lanes).await?;
        Ok(counts.into_iter().sum::<u64>().min(AHEAD_LIMIT))
    }

    /// Fences a running job: writes it, so that the rest of the transaction belongs to its lease holder. `false` if the
    /// lease has another fencing token. Reading the token would not conflict with a concurrent rescue.
    pub async fn fence(
        &self,
        session: &mut ClientSession,
        id: JobId,
        token: LeaseToken,
        now: DateTime,
    ) -> Result<bool, StoreError> {
        let ours = doc! { "_id": id, "lease.token": token };
        let touch = doc! { "$set": { "updatedAt": now } };
        let touched = self.jobs.update_one(ours, touch).session(session).await?;
        Ok(touched.matched_count == 1)
    }

    /// Stores the progress of a running job; `false` if the lease has another fencing token.
    pub async fn set_progress(
        &self,
        id: JobId,
        token: LeaseToken,
        progress: &Progress,
    ) -> Result<bool, StoreError> {
        let ours = doc! { "_id": id, "lease.token": token };
        // Progress resets the crash counter: the next crash has another cause.
        let set = doc! {
            "$set": { "progress": to_bson(progress)?, "crashes": 0, "rescued": false },
            "$inc": { "revision": 1_i64 },
        };
        Ok(self.jobs.update_one(ours, set).await?.matched_count == 1)
    }

    /// The existing jobs with these ids.
    pub async fn list_by_ids(&self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        let found = self.jobs.clone_with_type();
        let found = found.find(doc! { "_id": { "$in": ids.to_vec() } }).await?;
        skip_undecodable(found).try_collect().await
    }

    /// Id and revision of each of these jobs that exists.
    pub async fn revisions(&self, ids: &[JobId]) -> Result<Vec<(JobId, i64)>, StoreError> {
        revisions(&self.jobs, ids).await
    }
}
