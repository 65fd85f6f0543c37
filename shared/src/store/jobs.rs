//! Job repository: enqueueing, queries and cancellation. The engine has its own queries for claiming and settling.

mod bulk_select;
mod cancel;
mod children;
mod enqueue;

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

pub use self::cancel::{CancelError, Cancelled, RequeueError, Requeued};
use super::{
    Store, StoreError, linearizable::find_one_linearizable, revisions::revisions,
    tenants::TenantRepository, to_bson,
};
pub use crate::queue::new_job::{NewJob, job_lock_key};
use crate::{
    id::{JobId, LeaseToken, TenantId},
    queue::job::{Job, JobState, Progress},
};

/// Unique index: one running job per lock key.
pub const LOCK_INDEX: &str = "one_running_per_lock";
/// Unique index: one available job per unique key.
pub const UNIQUE_INDEX: &str = "one_available_per_unique_key";
/// Index for claims and sweeps.
pub const CLAIM_INDEX: &str = "claim";
/// Index of available jobs by due time.
pub const DUE_INDEX: &str = "due";
/// Index of jobs with steps deferred by an upstream.
pub const HELD_INDEX: &str = "held_steps";

/// Index of a tenant's jobs, newest first.
const TENANT_INDEX: &str = "tenant_newest_first";

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

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let named = |name: &str| IndexOptions::builder().name(name.to_owned());
        let index = |keys: Document, options: IndexOptions| {
            IndexModel::builder().keys(keys).options(options).build()
        };
        self.jobs
            .create_indexes([
                index(
                    doc! { "queue": 1, "state": 1, "lockKey": 1, "priority": 1, "runAt": 1 },
                    named(CLAIM_INDEX).build(),
                ),
                index(
                    doc! { "lockKey": 1 },
                    named(LOCK_INDEX)
                        .unique(true)
                        .partial_filter_expression(doc! { "state": "running" })
                        .build(),
                ),
                index(
                    doc! { "uniqueKey": 1 },
                    named(UNIQUE_INDEX)
                        .unique(true)
                        .partial_filter_expression(
                            doc! { "state": "available", "uniqueKey": { "$exists": true } },
                        )
                        .build(),
                ),
                index(
                    doc! { "queue": 1, "runAt": 1 },
                    named(DUE_INDEX)
                        .partial_filter_expression(doc! { "state": "available" })
                        .build(),
                ),
                index(
                    doc! { "steps.name": 1, "steps.error.code": 1, "runAt": 1 },
                    named(HELD_INDEX)
                        .partial_filter_expression(
                            doc! { "state": "available", "error": { "$exists": true } },
                        )
                        .build(),
                ),
                index(
                    doc! { "state": 1, "lease.until": 1 },
                    named("leases")
                        .partial_filter_expression(doc! { "state": "running" })
                        .build(),
                ),
                index(
                    doc! { "tenantId": 1, "_id": -1 },
                    named(TENANT_INDEX).build(),
                ),
                index(
                    doc! { "parent": 1, "_id": -1, "state": 1 },
                    named("children")
                        .partial_filter_expression(doc! { "parent": { "$exists": true } })
                        .build(),
                ),
                index(
                    doc! { "expireAt": 1 },
                    named("retention")
                        .expire_after(std::time::Duration::ZERO)
                        .build(),
                ),
            ])
            .await?;
        Ok(())
    }

    /// The job with this id.
    pub async fn find(&self, id: JobId) -> Result<Option<Job>, StoreError> {
        find_one_linearizable(&self.jobs, doc! { "_id": id }).await
    }

    /// At most `limit` jobs that match `filter`, newest first.
    pub async fn list(&self, filter: &JobFilter, limit: i64) -> Result<Vec<Job>, StoreError> {
        let mut query = Document::new();
        if let Some(tenants) = &filter.tenants {
            query.insert("tenantId", doc! { "$in": tenants.clone() });
        }
        if let Some(state) = filter.state {
            query.insert("state", state.name());
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
        self.jobs
            .find(query)
            .sort(doc! { "_id": -1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// The running job that holds this lock.
    pub async fn find_holder(&self, lock_key: &str) -> Result<Option<Job>, StoreError> {
        let holder = doc! { "lockKey": lock_key, "state": JobState::Running.name() };
        self.jobs.find_one(holder).await
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
        self.jobs
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .await?
            .try_collect()
            .await
    }

    /// Id and revision of each of these jobs that exists.
    pub async fn revisions(&self, ids: &[JobId]) -> Result<Vec<(JobId, i64)>, StoreError> {
        revisions(&self.jobs, ids).await
    }
}
