//! Release of jobs that wait for the result of another job.

use bson::{Bson, DateTime, Document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, options::Hint};

use super::{JobRepository, indexes::CLAIM_INDEX};
use crate::{
    id::{JobId, TenantId},
    queue::{
        error_code::ErrorCode,
        job::{JobState, Queue, tenant_lock_key},
        priority::Priority,
    },
    store::{StoreError, to_bson},
};

/// The most jobs released at a time, so that the transaction stays short. They run one after the other, so that the retry
/// delays of further ones end meanwhile.
const MAX_RELEASED: i64 = 1_000;

#[derive(serde::Deserialize)]
struct WaitingJob {
    #[serde(rename = "_id")]
    id: JobId,
}

impl JobRepository {
    /// Makes the jobs due that take the lock of one of these tenants and found something not ready. For the transaction that
    /// provides it: the job that provides it holds the lock, and the ready set is notified of the lock key when it is
    /// settled. The released steps begin their retry delays anew, and other steps keep theirs.
    pub async fn release_not_ready(
        &self,
        session: &mut ClientSession,
        tenants: &[TenantId],
        now: DateTime,
    ) -> Result<(), StoreError> {
        if tenants.is_empty() {
            return Ok(());
        }
        let ids = self.list_not_ready(session, tenants, now).await?;
        if ids.is_empty() {
            return Ok(());
        }
        let release = doc! {
            "$set": {
                "runAt": now,
                "steps.$[waiting].nextAt": now,
                "steps.$[waiting].attempts": 0,
                "updatedAt": now,
            },
            "$inc": { "revision": 1_i64 },
        };
        let available = doc! { "_id": { "$in": ids }, "state": JobState::Available.name() };
        self.jobs
            .update_many(available, release)
            .array_filters([not_ready("waiting.", now)?])
            .session(session)
            .await?;
        Ok(())
    }

    async fn list_not_ready(
        &self,
        session: &mut ClientSession,
        tenants: &[TenantId],
        now: DateTime,
    ) -> Result<Vec<JobId>, StoreError> {
        let keys: Vec<String> = tenants.iter().copied().map(tenant_lock_key).collect();
        let query = doc! {
            "queue": Queue::Provisioning.name(),
            "state": JobState::Available.name(),
            "lockKey": { "$in": keys },
            "priority": { "$in": Priority::ALL.map(Bson::from).to_vec() },
            "runAt": { "$gt": now },
            "steps": { "$elemMatch": not_ready("", now)? },
        };
        let mut found = self
            .jobs
            .clone_with_type::<WaitingJob>()
            .find(query)
            .hint(Hint::Name(CLAIM_INDEX.to_owned()))
            .projection(doc! { "_id": 1 })
            .limit(MAX_RELEASED)
            .session(&mut *session)
            .await?;
        let found: Vec<WaitingJob> = found.stream(session).try_collect().await?;
        Ok(found.into_iter().map(|job| job.id).collect())
    }
}

/// Matches a step that waits until something is ready, by fields with this prefix.
fn not_ready(prefix: &str, now: DateTime) -> Result<Document, StoreError> {
    let code = to_bson(&ErrorCode::UpstreamNotReady)?;
    Ok(doc! {
        format!("{prefix}error.code"): code,
        format!("{prefix}nextAt"): { "$gt": now },
    })
}
