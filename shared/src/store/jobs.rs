//! Job repository: enqueueing, queries and cancellation. The engine has its own queries for claiming and settling.

mod bulk_select;
mod cancel;
mod children;
mod ends;
mod enqueue;
mod filter;
mod indexes;
mod open_steps;
mod release;
mod requeue;
mod stats;

use std::{cmp::Reverse, sync::Arc};

use bson::{Bson, DateTime, Document, doc};
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, future::try_join_all, stream};
use mongodb::{ClientSession, Collection, options::Hint};

pub use self::{
    cancel::{CancelError, Cancelled, DismissError},
    ends::JobEnd,
    filter::JobFilter,
    indexes::{
        CLAIM_INDEX, DUE_INDEX, HELD_INDEX, LEASE_INDEX, LOCK_INDEX, UNIQUE_INDEX, WAITING_INDEX,
    },
    requeue::{RequeueError, Requeued},
    stats::{JobCount, JobCounts},
};
use super::{
    Store, StoreError,
    lenient::{skip_undecodable, take_decodable},
    linearizable::find_one_linearizable,
    members::MemberRepository,
    revisions::revisions,
    tenants::TenantRepository,
    to_bson,
};
pub use crate::queue::new_job::{NewJob, job_lock_key};
use crate::{
    id::{JobId, LeaseToken, TenantId},
    queue::{
        args::queue_of,
        job::{Job, JobState, Progress, Queue},
    },
};

/// Limit on the jobs counted ahead of another.
const AHEAD_LIMIT: u64 = 1_000;
/// The most scans of an index that MongoDB merges to yield an order.
const MERGED_SCANS: usize = 200;
/// The most tenants whose jobs are listed by one query.
const MERGED_TENANTS: usize = MERGED_SCANS / 2;
/// The most such queries at a time.
const CONCURRENT_PARTS: usize = 4;

/// Jobs.
#[derive(Debug, Clone)]
pub struct JobRepository {
    tenants: TenantRepository,
    members: MemberRepository,
    jobs: Collection<Job>,
}

impl JobRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            tenants: TenantRepository::new(store),
            members: MemberRepository::new(store),
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
        let Some(tenants) = &filter.tenants else {
            return self.list_of(None, filter, limit).await;
        };
        // The jobs of each part are merged from one scan a tenant, however many jobs others have.
        let parts = tenants.chunks(MERGED_TENANTS);
        let parts = parts.map(|part| self.list_of(Some(part), filter, limit).boxed());
        let mut parts = stream::iter(parts.collect::<Vec<_>>()).buffer_unordered(CONCURRENT_PARTS);
        let mut jobs = Vec::new();
        while let Some(part) = parts.try_next().await? {
            jobs.extend(part);
            jobs.sort_unstable_by_key(|job: &Job| Reverse(job.id));
            jobs.truncate(usize::try_from(limit).unwrap_or_default());
        }
        Ok(jobs)
    }

    /// The jobs of these tenants, or of all.
    async fn list_of(
        &self,
        tenants: Option<&[TenantId]>,
        filter: &JobFilter,
        limit: i64,
    ) -> Result<Vec<Job>, StoreError> {
        let query = self.query_of(filter, tenants).await?;
        let jobs = self.jobs.clone_with_type();
        let found = jobs.find(query).sort(doc! { "_id": -1 });
        take_decodable(found, limit).await
    }

    /// A filter as a query, of these tenants, or of all. For states or a queue alone it names every kind, so that the index
    /// of kinds yields the order: an index of states would be written with every change of a job's state.
    async fn query_of(
        &self,
        filter: &JobFilter,
        tenants: Option<&[TenantId]>,
    ) -> Result<Document, StoreError> {
        let mut query = filter.document(tenants)?;
        if tenants.is_none() && filter.is_by_states_or_queue() {
            let mut kinds = self.kinds().await?;
            if let Some(queue) = filter.queue {
                kinds.retain(|kind| may_be_of(kind, queue));
            }
            let states = match filter.states.len() {
                0 => JobState::ALL.len(),
                named => named,
            };
            if kinds.len() * states <= MERGED_SCANS {
                query.insert("kind", doc! { "$in": kinds });
            }
        }
        Ok(query)
    }

    /// The kinds of the stored jobs, also those that this build does not know.
    async fn kinds(&self) -> Result<Vec<Bson>, StoreError> {
        self.jobs.distinct("kind", doc! {}).await
    }

    /// The running job that holds this lock.
    pub async fn find_holder(&self, lock_key: &str) -> Result<Option<Job>, StoreError> {
        let holder = doc! { "lockKey": lock_key, "state": JobState::Running.name() };
        self.jobs.find_one(holder).await
    }

    /// The job that waits or runs for the same purpose as `new`: the available one with its unique key, otherwise the
    /// running one with its lock key. For kinds that have a lock of their own.
    pub async fn find_pending(&self, new: &NewJob) -> Result<Option<Job>, StoreError> {
        let job = new.job();
        let available = doc! { "uniqueKey": &job.unique_key, "state": JobState::Available.name() };
        match self.jobs.find_one(available).await? {
            Some(waiting) => Ok(Some(waiting)),
            None => self.find_holder(&job.lock_key).await,
        }
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

/// Whether a kind has jobs of this queue, as far as this build knows the kind.
fn may_be_of(kind: &Bson, queue: Queue) -> bool {
    let known = kind.as_str().and_then(queue_of);
    known.is_none_or(|own| own == queue)
}
