//! The jobs, as those see them who ask for them, look at them and stop them. What the engine does with them is
//! the engine's.

mod bulk_select;
mod cancel;
mod children;
mod enqueue;

use std::sync::Arc;

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

pub use self::{
    cancel::{CancelError, Cancelled, RequeueError, Requeued},
    enqueue::{NewJob, job_lock_key},
};
use super::{
    Store, StoreError, linearizable::find_one_linearizable, tenants::TenantRepository, to_bson,
};
use crate::{
    id::{JobId, LeaseToken, TenantId},
    queue::job::{Job, JobState, Progress},
};

/// The name of the index that keeps two jobs with one lock key from running at the same time.
pub const LOCK_INDEX: &str = "one_running_per_lock";
/// The name of the index that keeps two jobs with one unique key from waiting at the same time.
pub const UNIQUE_INDEX: &str = "one_available_per_unique_key";
/// The name of the index that claims, sweeps and looks for more work use.
pub const CLAIM_INDEX: &str = "claim";
/// The name of the index that tells what waits longest.
pub const DUE_INDEX: &str = "due";
/// The name of the index that finds the jobs whose steps an upstream holds.
pub const HELD_INDEX: &str = "held_steps";

/// The name of the index that leads to a tenant's jobs.
const TENANT_INDEX: &str = "tenant_newest_first";

/// The jobs.
#[derive(Debug, Clone)]
pub struct JobRepository {
    tenants: TenantRepository,
    jobs: Collection<Job>,
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Only jobs about these tenants; everything when missing.
    pub tenants: Option<Vec<TenantId>>,
    /// Only in this state.
    pub state: Option<JobState>,
    /// Only of this kind.
    pub kind: Option<String>,
    /// Only those that this one made.
    pub parent: Option<JobId>,
    /// Only those of which a step changed something upstream, or would; or only the others.
    pub changed: Option<bool>,
    /// Only those made before this one.
    pub before: Option<JobId>,
}

impl JobRepository {
    /// The jobs in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            tenants: TenantRepository::new(store),
            jobs: store.collection("jobs"),
        }
    }

    /// Makes the indexes.
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

    /// At most `limit` jobs that `filter` lets through, newest first.
    pub async fn list(&self, filter: &JobFilter, limit: i64) -> Result<Vec<Job>, StoreError> {
        let mut wanted = Document::new();
        if let Some(tenants) = &filter.tenants {
            wanted.insert("tenantId", doc! { "$in": tenants.clone() });
        }
        if let Some(state) = filter.state {
            wanted.insert("state", state.name());
        }
        if let Some(kind) = &filter.kind {
            wanted.insert("kind", kind);
        }
        if let Some(parent) = filter.parent {
            wanted.insert("parent", parent);
        }
        if let Some(changed) = filter.changed {
            wanted.insert("steps.changes.0", doc! { "$exists": changed });
        }
        if let Some(before) = filter.before {
            wanted.insert("_id", doc! { "$lt": before });
        }
        self.jobs
            .find(wanted)
            .sort(doc! { "_id": -1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// The job that holds this lock.
    pub async fn find_holder(&self, lock_key: &str) -> Result<Option<Job>, StoreError> {
        let holder = doc! { "lockKey": lock_key, "state": JobState::Running.name() };
        self.jobs.find_one(holder).await
    }

    /// Writes a running job, so that what follows in this transaction is its holder's alone; false if the lease is no
    /// longer the one with this token. Only reading the token would not fence.
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

    /// Writes how far a running job has come; false if the lease is no longer the one with this token.
    pub async fn set_progress(
        &self,
        id: JobId,
        token: LeaseToken,
        progress: &Progress,
    ) -> Result<bool, StoreError> {
        let ours = doc! { "_id": id, "lease.token": token };
        // It has come further: whoever dies of it next does not die of the same thing.
        let set = doc! {
            "$set": { "progress": to_bson(progress)?, "crashes": 0, "rescued": false },
            "$inc": { "revision": 1_i64 },
        };
        Ok(self.jobs.update_one(ours, set).await?.matched_count == 1)
    }

    /// The jobs with these ids that exist.
    pub async fn list_by_ids(&self, ids: &[JobId]) -> Result<Vec<Job>, StoreError> {
        self.jobs
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .await?
            .try_collect()
            .await
    }

    /// The id and revision of each of these jobs that exists.
    pub async fn revisions(&self, ids: &[JobId]) -> Result<Vec<(JobId, i64)>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Revision {
            #[serde(rename = "_id")]
            id: JobId,
            revision: i64,
        }
        let ids: Vec<Bson> = ids.iter().map(|id| (*id).into()).collect();
        let revisions: Vec<Revision> = self
            .jobs
            .clone_with_type()
            .find(doc! { "_id": { "$in": ids } })
            .projection(doc! { "revision": 1 })
            .await?
            .try_collect()
            .await?;
        Ok(revisions
            .into_iter()
            .map(|job| (job.id, job.revision))
            .collect())
    }
}
