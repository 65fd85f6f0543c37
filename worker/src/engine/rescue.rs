//! Taking back jobs from workers that are gone.

use bson::{Bson, doc};
use dezky_shared::{
    id::JobId,
    platform::{change_feed::DocumentChange, clock},
    queue::{
        error_code::ErrorCode,
        job::{Attempt, Job, JobFailure, JobState},
    },
    store::{StoreError, TransactionError, to_bson},
};
use futures::FutureExt as _;

use super::{
    Engine,
    bulk::{self, ItemError, Update},
    claim::readable,
    settle::append_attempt,
};
use crate::metrics;

/// Workers that may die of a job, with no step ended in between, before it is discarded.
const CRASHES: i32 = 3;
/// The most leases looked at in one go.
const BATCH: i64 = 1_000;

impl Engine {
    /// Takes back every job whose lease ran out. Run by the leader.
    pub(crate) async fn rescue(&self) -> Result<(), StoreError> {
        let ran_out = doc! { "state": JobState::Running.name(), "lease.until": { "$lt": self.ctx.store.now() } };
        let jobs = self.jobs.clone_with_type();
        let lost = readable(jobs.find(ran_out).limit(BATCH).await?).await?;
        let (poisonous, others): (Vec<Job>, Vec<Job>) =
            lost.into_iter().partition(|job| crashes(job) >= CRASHES);

        let updates = others
            .iter()
            .map(|job| self.rescue_update(job))
            .collect::<Result<Vec<_>, _>>()?;
        let errors = bulk::update(&self.ctx.store, &updates, self.times.bulk_deadline).await;
        for (index, error) in errors {
            let job = &others[index];
            match error {
                // The one that waits does the work.
                ItemError::Superseded => {
                    self.discard_crashed(job, JobState::Cancelled, ErrorCode::Superseded)
                        .await?;
                }
                error => {
                    tracing::warn!(job.id = %job.id, ?error, "A rescue was not written; trying again later");
                }
            }
        }
        metrics::rescued(others.len(), poisonous.len());
        for job in &others {
            tracing::warn!(job.id = %job.id, job.kind = job.kind, crashes = crashes(job), "Rescued a job whose worker is gone");
        }
        for job in &poisonous {
            tracing::error!(job.id = %job.id, job.kind = job.kind, "Discarded a job that three workers died of");
            self.discard_crashed(job, JobState::Discarded, ErrorCode::WorkerCrashed)
                .await?;
        }
        Ok(())
    }

    fn rescue_update(&self, job: &Job) -> Result<Update, StoreError> {
        let crashes = crashes(job);
        let spread = self
            .times
            .rescue_spread
            .saturating_mul(1 << crashes.clamp(0, 10));
        let wait = spread.mul_f64(rand::random());
        let set = doc! {
            "state": JobState::Available.name(),
            "runAt": clock::later(self.ctx.store.now(), wait),
            // A crash is counted apart.
            "attempt": { "$max": [0, { "$subtract": ["$attempt", 1] }] },
            "crashes": crashes,
            "rescued": true,
            "attempts": append_attempt(&lost_attempt(job, self.ctx.store.now()))?,
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        Ok(Update::one(
            still_lost(job),
            vec![doc! { "$unset": "lease" }, doc! { "$set": set }],
        ))
    }

    /// Ends a job whose worker is gone, and tells its tenant in the same transaction.
    async fn discard_crashed(
        &self,
        job: &Job,
        state: JobState,
        code: ErrorCode,
    ) -> Result<(), StoreError> {
        let failure = JobFailure::permanent(code, "its worker is gone");
        let superseded_by = match (&job.unique_key, code) {
            (Some(key), ErrorCode::Superseded) => {
                let Some(waiting) = self.find_waiting(key).await? else {
                    // It was cancelled meanwhile: the next rescue lets this one wait.
                    return Ok(());
                };
                Some(waiting)
            }
            _ => None,
        };
        let now = self.ctx.store.now();
        let mut set = doc! {
            "state": state.name(),
            "error": { "$literal": to_bson(&failure)? },
            "crashes": crashes(job),
            "attempts": append_attempt(&lost_attempt(job, now))?,
            "finishedAt": "$$NOW",
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        if let Some(kept_for) = state.retention() {
            set.insert("expireAt", clock::later(now, kept_for));
        }
        if let Some(by) = superseded_by {
            set.insert("supersededBy", by);
        }
        let pipeline = vec![
            doc! { "$unset": ["lease", "error", "sealed", "cancelRequested"] },
            doc! { "$set": set },
        ];
        let ended = self
            .ctx
            .store
            .transaction(
                (self, job, pipeline, failure),
                |session, (this, job, pipeline, failure)| {
                    async move {
                        let ended = this
                            .jobs
                            .update_one(still_lost(job), pipeline.clone())
                            .session(&mut *session)
                            .await?;
                        if ended.matched_count == 1 {
                            this.ctx
                                .jobs
                                .fail_open_steps(session, job, failure, now)
                                .await?;
                        }
                        Ok::<(), TransactionError<std::convert::Infallible>>(())
                    }
                    .boxed()
                },
            )
            .await;
        match ended {
            Ok(()) => {}
            Err(TransactionError::Store(error)) => return Err(error),
            Err(TransactionError::Aborted(never)) => match never {},
        }
        let mut changes = vec![DocumentChange::Job(job.id)];
        changes.extend(job.tenant_id.map(DocumentChange::Tenant));
        self.ctx.changes.publish(&changes).await;
        Ok(())
    }

    async fn find_waiting(&self, unique_key: &str) -> Result<Option<JobId>, StoreError> {
        let waiting = doc! { "uniqueKey": unique_key, "state": JobState::Available.name() };
        Ok(self.jobs.find_one(waiting).await?.map(|job| job.id))
    }
}

/// Its crashes, this one included. Only a handler that had surely started can have brought its worker down.
fn crashes(job: &Job) -> i32 {
    let started = job
        .lease
        .as_ref()
        .is_some_and(|lease| lease.started_at.is_some());
    job.crashes + i32::from(started)
}

/// The condition stands in the filter too: the holder may renew, or settle, at any moment.
fn still_lost(job: &Job) -> bson::Document {
    let token = job
        .lease
        .as_ref()
        .map_or(Bson::Null, |lease| lease.token.into());
    doc! {
        "_id": job.id,
        "state": JobState::Running.name(),
        "lease.token": token,
        "$expr": { "$lt": ["$lease.until", "$$NOW"] },
    }
}

fn lost_attempt(job: &Job, now: bson::DateTime) -> Attempt {
    let worker = job
        .lease
        .as_ref()
        .map(|lease| lease.worker.clone())
        .unwrap_or_default();
    let began = job
        .lease
        .as_ref()
        .and_then(|lease| lease.started_at)
        .unwrap_or(job.updated_at);
    Attempt {
        n: job.total_attempts(),
        worker,
        started_at: began,
        finished_at: now,
        outcome: "rescue".to_owned(),
        error: Some("the worker is gone".to_owned()),
        upstream_request_ids: Vec::new(),
    }
}
