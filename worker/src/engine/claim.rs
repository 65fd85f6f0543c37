//! From lock keys to jobs that are ours.

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use dezky_shared::{
    id::{JobId, LeaseToken},
    platform::clock,
    queue::job::{Job, JobState, Queue},
    store::{StoreError, jobs::CLAIM_INDEX},
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::TryStreamExt as _;
use mongodb::{Cursor, options::Hint};

use super::{
    Engine,
    bulk::{self, ItemError, Update},
};

/// A job whose lease is ours.
#[derive(Debug)]
pub(crate) struct Claim {
    pub(crate) job: Job,
    pub(crate) token: LeaseToken,
    pub(crate) trust: LeaseDeadline,
    /// By the database's clock.
    pub(crate) claimed_at: DateTime,
}

/// Stages that give each of `keys` its first due job in `queue`.
///
/// `now` is a literal: with `$$NOW` here the planner cannot bound the scan and reads every job that waits.
pub(crate) fn first_due(queue: Queue, keys: Bson, now: DateTime) -> Vec<Document> {
    vec![
        doc! { "$match": {
            "queue": queue.name(),
            "state": JobState::Available.name(),
            "lockKey": keys,
            "runAt": { "$lte": now },
        } },
        doc! { "$sort": { "lockKey": 1, "priority": 1, "runAt": 1 } },
        doc! { "$group": {
            "_id": "$lockKey",
            "job": { "$first": "$_id" },
            "priority": { "$first": "$priority" },
        } },
    ]
}

#[derive(Debug, serde::Deserialize)]
struct FirstDue {
    job: JobId,
}

/// Those of the jobs that this build can read. One that a newer build wrote otherwise is that build's, and in nobody
/// else's way.
pub(crate) async fn readable(found: Cursor<RawDocumentBuf>) -> Result<Vec<Job>, StoreError> {
    let found: Vec<RawDocumentBuf> = found.try_collect().await?;
    let read = found.iter().filter_map(|stored| {
        let job = bson::deserialize_from_slice(stored.as_bytes());
        job.inspect_err(|error| {
            let id = stored.get("_id").ok().flatten();
            tracing::error!(job.id = ?id, %error, "This build cannot read a job; leaving it to a newer one");
        })
        .ok()
    });
    Ok(read.collect())
}

impl Engine {
    /// Claims the first due job of each of these lock keys, where it has one and nobody holds the lock.
    pub(crate) async fn claim(
        &self,
        queue: Queue,
        keys: Vec<String>,
    ) -> Result<Vec<Claim>, StoreError> {
        let due = first_due(queue, doc! { "$in": keys }.into(), self.ctx.store.now());
        let found: Vec<FirstDue> = bulk::with_timeout(self.times.bulk_deadline, async {
            self.jobs
                .clone_with_type::<Document>()
                .aggregate(due)
                .hint(Hint::Name(CLAIM_INDEX.to_owned()))
                .with_type()
                .await?
                .try_collect()
                .await
        })
        .await?;
        if found.is_empty() {
            return Ok(Vec::new());
        }

        let token = LeaseToken::new();
        let ids: Vec<JobId> = found.into_iter().map(|found| found.job).collect();
        // Trust counts from before the claim is sent: the lease cannot have begun earlier.
        let sent = clock::boot_time();
        // An error here may hide a claim that was written, so the answer is what reading back by the token says.
        self.write_claims(&ids, token).await;
        let ours = doc! { "_id": { "$in": ids }, "lease.token": token };
        let claimed = bulk::with_timeout(self.times.bulk_deadline, async {
            readable(self.jobs.clone_with_type().find(ours).await?).await
        })
        .await?;

        let claimed_at = self.ctx.store.now();
        let ends = sent + self.times.lease.saturating_sub(self.times.trust_margin);
        Ok(claimed
            .into_iter()
            .map(|job| {
                let trust = LeaseDeadline::until(
                    ends,
                    self.times.write_margin,
                    self.times.min_write_timeout,
                );
                Claim {
                    job,
                    token,
                    trust,
                    claimed_at,
                }
            })
            .collect())
    }

    /// One update claims them all: MongoDB reads and plans it once. A lock that is held ends it early, and so does a job
    /// that an open transaction holds; then each of them is claimed, or not, for itself.
    async fn write_claims(&self, ids: &[JobId], token: LeaseToken) {
        let (store, deadline) = (&self.ctx.store, self.times.bulk_deadline);
        let pipeline = self.claim_pipeline(token);
        let all = Update::many(
            claimable(doc! { "$in": ids.to_vec() }.into()),
            pipeline.clone(),
        );
        let errors = bulk::update(store, &[all], deadline).await;
        let Some(error) = errors.into_values().next() else {
            return;
        };
        if ids.len() == 1 {
            return;
        }
        let each = ids
            .iter()
            .map(|id| Update::one(claimable(id.into()), pipeline.clone()));
        let each: Vec<Update> = each.collect();
        match error {
            ItemError::Unknown(_) => bulk::update_individually(store, &each, deadline).await,
            _ => bulk::update(store, &each, deadline).await,
        };
    }

    fn claim_pipeline(&self, token: LeaseToken) -> Vec<Document> {
        vec![
            // In a pipeline `$set` merges into what is there: without this, an old lease's fields live on.
            doc! { "$unset": "lease" },
            doc! { "$set": {
                "state": JobState::Running.name(),
                "lease": {
                    "token": token,
                    "worker": { "$literal": self.worker.as_str() },
                    "until": { "$add": ["$$NOW", millis(self.times.lease)] },
                },
                "attempt": { "$add": ["$attempt", 1] },
                "revision": { "$add": ["$revision", 1_i64] },
                "updatedAt": "$$NOW",
            } },
        ]
    }
}

fn claimable(id: Bson) -> Document {
    doc! {
        "_id": id,
        "state": JobState::Available.name(),
        "$expr": { "$lte": ["$runAt", "$$NOW"] },
    }
}

/// A span of time as MongoDB adds it to a date.
pub(crate) fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}
