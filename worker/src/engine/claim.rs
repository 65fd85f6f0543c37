//! Claiming: from lock keys to leased jobs.

use std::{collections::BTreeMap, sync::Arc};

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};
use dezky_shared::{
    id::{JobId, LeaseToken},
    platform::clock,
    queue::job::{Job, JobState, Queue},
    store::{Store, StoreError, jobs::CLAIM_INDEX, skip_undecodable},
};
use dezky_upstreams::clients::LeaseDeadline;
use futures::TryStreamExt as _;
use mongodb::{Collection, options::Hint};

use super::{
    EngineTimings,
    bulk::{self, ItemError, Update},
    lease::LeasedJob,
    slots::Slot,
    times::millis,
    undecodable::{Decoded, decode, postpone_refused, release_undecodable},
};

/// Claims due jobs for this process.
pub(super) struct Claimer {
    store: Arc<Store>,
    jobs: Collection<Document>,
    times: EngineTimings,
    /// The name of this process in leases.
    worker: String,
}

/// A job whose lease this process holds.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) job: Job,
    /// The fencing token.
    pub(super) token: LeaseToken,
    pub(super) deadline: LeaseDeadline,
    /// By MongoDB's clock.
    pub(super) claimed_at: DateTime,
}

/// A claimed job on its way to its handler, with the slot it occupies.
#[derive(Debug)]
pub(super) struct Claimed {
    pub(super) claim: Claim,
    pub(super) lease: Arc<LeasedJob>,
    pub(super) slot: Slot,
}

/// The stages that resolve each of `keys` to its first due job in `queue`.
///
/// `now` is a literal: with `$$NOW` the planner cannot bound the index scan, and reads every waiting job.
pub(super) fn first_due(queue: Queue, keys: Bson, now: DateTime) -> Vec<Document> {
    vec![
        doc! { "$match": due(queue, keys, now) },
        doc! { "$sort": { "lockKey": 1, "priority": 1, "runAt": 1 } },
        doc! { "$group": {
            "_id": "$lockKey",
            "job": { "$first": "$_id" },
            "priority": { "$first": "$priority" },
        } },
    ]
}

/// The due jobs of these lock keys.
fn due(queue: Queue, keys: Bson, now: DateTime) -> Document {
    doc! {
        "queue": queue.name(),
        "state": JobState::Available.name(),
        "lockKey": keys,
        "runAt": { "$lte": now },
    }
}

#[derive(Debug, serde::Deserialize)]
struct FirstDue {
    job: JobId,
}

impl Claimer {
    pub(super) fn new(store: &Arc<Store>, times: &EngineTimings, worker: &str) -> Self {
        Self {
            jobs: store.collection("jobs"),
            store: store.clone(),
            times: times.clone(),
            worker: worker.to_owned(),
        }
    }

    /// Claims the first due job of each of these lock keys, unless a running job holds the lock.
    pub(super) async fn claim(
        &self,
        queue: Queue,
        keys: &[String],
    ) -> Result<Vec<Claim>, StoreError> {
        let token = LeaseToken::new();
        // The deadline counts from before the claim is sent: the lease cannot have begun earlier.
        let sent = clock::boot_time();
        let claimed = match keys {
            [key] => self.claim_single(queue, key, token).await?,
            _ => self.claim_batch(queue, keys, token).await?,
        };
        let undecodable = claimed.undecodable.into_iter();
        let undecodable = undecodable.map(|id| doc! { "_id": id, "lease.token": token });
        release_undecodable(&self.store, &self.times, undecodable.collect()).await;

        let claimed_at = self.store.now();
        let ends = sent + self.times.lease.saturating_sub(self.times.trust_margin);
        Ok(claimed
            .jobs
            .into_iter()
            .map(|job| {
                let deadline = LeaseDeadline::until(
                    ends,
                    self.times.write_margin,
                    self.times.min_write_timeout,
                );
                Claim {
                    job,
                    token,
                    deadline,
                    claimed_at,
                }
            })
            .collect())
    }

    /// Claims the first due job of one lock key by one command: a job that comes alone does not wait for three. A held
    /// lock claims nothing. A claim without a reply is read back by the token. A job that MongoDB refused is claimed once
    /// more, as a batch of one, which finds its id and puts it off.
    async fn claim_single(
        &self,
        queue: Queue,
        key: &str,
        token: LeaseToken,
    ) -> Result<Decoded, StoreError> {
        let mut first = due(queue, key.into(), self.store.now());
        first.insert("$expr", is_due());
        let claim = Update::one(first, self.claim_pipeline(token));
        let (order, deadline) = (doc! { "priority": 1, "runAt": 1 }, self.times.bulk_deadline);
        let claimed =
            bulk::find_one_and_update(&self.store, claim, order, CLAIM_INDEX, deadline).await;
        match claimed {
            Ok(claimed) => Ok(claimed.map(Decoded::one).unwrap_or_default()),
            Err(ItemError::Locked | ItemError::Superseded) => Ok(Decoded::default()),
            Err(ItemError::Refused(_)) => {
                let keys = [key.to_owned()];
                self.claim_batch(queue, &keys, token).await
            }
            Err(ItemError::Conflict | ItemError::Unavailable(_)) => {
                let running = JobState::Running.name();
                self.read_back(doc! { "state": running, "lockKey": key, "lease.token": token })
                    .await
            }
        }
    }

    /// Claims the first due job of each lock key: resolves the keys, writes all claims by one update, and reads back by
    /// the token which were written, also after a lost reply.
    async fn claim_batch(
        &self,
        queue: Queue,
        keys: &[String],
        token: LeaseToken,
    ) -> Result<Decoded, StoreError> {
        let ids = self.resolve(queue, keys).await?;
        if ids.is_empty() {
            return Ok(Decoded::default());
        }
        let errors = self.write_claims(&ids, token).await;
        let refused = errors.iter().filter_map(|(index, error)| match error {
            ItemError::Refused(reason) => Some((ids[*index], reason.as_str())),
            _ => None,
        });
        postpone_refused(&self.store, &self.times, refused.collect()).await;
        self.read_back(doc! { "_id": { "$in": ids }, "lease.token": token })
            .await
    }

    /// The jobs that this process has just claimed.
    async fn read_back(&self, ours: Document) -> Result<Decoded, StoreError> {
        let jobs = self.jobs.clone_with_type::<RawDocumentBuf>();
        bulk::with_timeout(self.times.bulk_deadline, async {
            decode(jobs.find(ours).await?).await
        })
        .await
    }

    async fn resolve(&self, queue: Queue, keys: &[String]) -> Result<Vec<JobId>, StoreError> {
        let due = first_due(queue, doc! { "$in": keys }.into(), self.store.now());
        let found: Vec<FirstDue> = bulk::with_timeout(self.times.bulk_deadline, async {
            let hint = Hint::Name(CLAIM_INDEX.to_owned());
            let found = self.jobs.aggregate(due).hint(hint).await?;
            skip_undecodable(found).try_collect().await
        })
        .await?;
        Ok(found.into_iter().map(|found| found.job).collect())
    }

    /// One compare-and-set update for all: MongoDB plans it once. A held lock or a write conflict ends it early; then
    /// each job is claimed by an update of its own. Returns the errors by index.
    async fn write_claims(&self, ids: &[JobId], token: LeaseToken) -> BTreeMap<usize, ItemError> {
        let (store, deadline) = (&self.store, self.times.bulk_deadline);
        let pipeline = self.claim_pipeline(token);
        let all = Update::many(
            claimable(doc! { "$in": ids.to_vec() }.into()),
            pipeline.clone(),
        );
        let errors = bulk::update(store, &[all], deadline).await;
        let (Some(error), 2..) = (errors.get(&0), ids.len()) else {
            return errors;
        };
        let each = ids
            .iter()
            .map(|id| Update::one(claimable(id.into()), pipeline.clone()));
        let each: Vec<Update> = each.collect();
        match error {
            ItemError::Superseded | ItemError::Locked => bulk::update(store, &each, deadline).await,
            ItemError::Conflict | ItemError::Refused(_) | ItemError::Unavailable(_) => {
                bulk::update_individually(store, &each, deadline).await
            }
        }
    }

    fn claim_pipeline(&self, token: LeaseToken) -> Vec<Document> {
        vec![
            // In a pipeline `$set` merges into an existing document: without this, an old lease's fields remain.
            doc! { "$unset": "lease" },
            doc! { "$set": {
                "state": JobState::Running.name(),
                "lease": {
                    "token": token,
                    "worker": { "$literal": self.worker.as_str() },
                    "until": { "$add": ["$$NOW", millis(self.times.lease)] },
                },
                "attempt": { "$add": ["$attempt", 1] },
                "uniqueKey": unless_it_has_secrets("$uniqueKey"),
                "revision": { "$add": ["$revision", 1_i64] },
                "updatedAt": "$$NOW",
            } },
        ]
    }
}

/// The unique key of a job without secrets. A job that carries some gives its key up: superseded by one that was enqueued
/// during its attempt, it would lose them.
fn unless_it_has_secrets(unique_key: &str) -> Document {
    doc! { "$cond": [{ "$gt": ["$sealed", Bson::Null] }, "$$REMOVE", unique_key] }
}

fn claimable(id: Bson) -> Document {
    doc! {
        "_id": id,
        "state": JobState::Available.name(),
        "$expr": is_due(),
    }
}

/// Whether a job is due by MongoDB's own clock.
fn is_due() -> Document {
    doc! { "$lte": ["$runAt", "$$NOW"] }
}
