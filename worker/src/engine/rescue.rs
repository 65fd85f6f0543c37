//! The rescue: jobs whose lease expired become available again, or are discarded after three crashes.
//!
//! A rescue releases the job's lock, too, so it waits until every write of the lost holder has landed
//! ([`EngineTimings::rescue_delay`]): the next holder of the lock, of whichever job, reads before it writes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bson::{Bson, DateTime, Document, doc};
use dezky_shared::{
    id::JobId,
    platform::{change_feed::DocumentChange, clock},
    queue::{
        error_code::ErrorCode,
        job::{Attempt, Job, JobFailure, JobState},
    },
    store::{StoreError, TransactionError, to_bson},
};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::Collection;
use tokio::time::Instant;

use super::{
    EngineTimings,
    bulk::{self, ItemError, Update},
    database_health::DatabaseHealth,
    leader::Duty,
    settle::append_attempt,
    times::millis,
    undecodable::{decode, release_undecodable},
};
use crate::{context::Context, metrics};

/// Maximum number of consecutive crashes; the job is then discarded.
const MAX_CRASHES: i32 = 3;
/// Expired leases read at a time.
const BATCH: usize = 1_000;

/// Rescues jobs whose lease expired.
pub(super) struct Rescue {
    ctx: Arc<Context>,
    jobs: Collection<Job>,
    times: EngineTimings,
    health: Arc<DatabaseHealth>,
}

impl Duty for Rescue {
    fn name(&self) -> &'static str {
        "rescue"
    }

    fn every(&self) -> Duration {
        self.times.rescue_every
    }

    fn run(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            if self.health.is_healthy() {
                self.rescue().await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn reflects_database_health(&self) -> bool {
        true
    }
}

impl Rescue {
    pub(super) fn new(
        ctx: &Arc<Context>,
        times: &EngineTimings,
        health: &Arc<DatabaseHealth>,
    ) -> Self {
        Self {
            jobs: ctx.store.collection("jobs"),
            ctx: ctx.clone(),
            times: times.clone(),
            health: health.clone(),
        }
    }

    /// Rescues batch by batch: a run that ended with the first would take minutes after the crash of many workers.
    async fn rescue(&self) -> Result<(), StoreError> {
        let began = Instant::now();
        while self.rescue_batch().await? && began.elapsed() < self.times.duty_timeout / 2 {}
        Ok(())
    }

    /// Rescues the first jobs. Returns whether there may be more.
    async fn rescue_batch(&self) -> Result<bool, StoreError> {
        let expired_before = clock::earlier(self.ctx.store.now(), self.times.rescue_delay());
        let expired =
            doc! { "state": JobState::Running.name(), "lease.until": { "$lt": expired_before } };
        let jobs = self.jobs.clone_with_type();
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let lost = decode(jobs.find(expired).limit(limit).await?).await?;
        let is_full = lost.jobs.len() + lost.undecodable.len() == BATCH;
        let filters = lost.undecodable.into_iter().map(|id| self.is_expired(id));
        let filters = filters.collect();
        release_undecodable(&self.ctx.store, &self.times, filters).await;

        let (poisonous, others): (Vec<Job>, Vec<Job>) = lost
            .jobs
            .into_iter()
            .partition(|job| crashes(job) >= MAX_CRASHES);
        let rescued = self.make_available(&others).await?;
        for job in &poisonous {
            tracing::error!(job.id = %job.id, job.kind = job.kind, "Discarding a job that crashed three workers");
            self.discard_crashed(job, JobState::Discarded, ErrorCode::WorkerCrashed)
                .await;
        }
        metrics::rescued(others.len(), poisonous.len());
        // A batch that cannot be rescued is left to the next run.
        Ok(is_full && rescued > 0)
    }

    /// Makes jobs available again. Returns their number.
    async fn make_available(&self, lost: &[Job]) -> Result<usize, StoreError> {
        let updates = lost
            .iter()
            .map(|job| self.rescue_update(job))
            .collect::<Result<Vec<_>, _>>()?;
        let errors = bulk::update(&self.ctx.store, &updates, self.times.bulk_deadline).await;
        for job in lost {
            tracing::warn!(job.id = %job.id, job.kind = job.kind, crashes = crashes(job), "Rescued a job whose lease expired");
        }
        let rescued = lost.len() - errors.len();
        for (index, error) in errors {
            let job = &lost[index];
            match error {
                // Another available job has the same unique key and supersedes this one.
                ItemError::Superseded => {
                    self.discard_crashed(job, JobState::Cancelled, ErrorCode::Superseded)
                        .await;
                }
                error => {
                    tracing::warn!(job.id = %job.id, ?error, "Could not rescue a job; retrying");
                }
            }
        }
        Ok(rescued)
    }

    fn rescue_update(&self, job: &Job) -> Result<Update, StoreError> {
        let crashes = crashes(job);
        let spread = self
            .times
            .rescue_spread
            .saturating_mul(1 << crashes.saturating_sub(1).clamp(0, 10));
        let wait = spread.mul_f64(rand::random());
        let set = doc! {
            "state": JobState::Available.name(),
            "runAt": clock::later(self.ctx.store.now(), wait),
            // Crashes are counted separately.
            "attempt": { "$max": [0, { "$subtract": ["$attempt", 1] }] },
            "crashes": crashes,
            "rescued": true,
            "attempts": append_attempt(&lost_attempt(job, self.ctx.store.now()))?,
            "updatedAt": "$$NOW",
            "revision": { "$add": ["$revision", 1_i64] },
        };
        Ok(Update::one(
            self.still_lost(job),
            vec![doc! { "$unset": "lease" }, doc! { "$set": set }],
        ))
    }

    /// Ends a job whose worker is gone. An error concerns this job alone, until the next run.
    async fn discard_crashed(&self, job: &Job, state: JobState, code: ErrorCode) {
        if let Err(error) = self.try_discard(job, state, code).await {
            tracing::warn!(job.id = %job.id, %error, "Could not discard a job whose lease expired; retrying");
            self.health.record_error(&error);
        }
    }

    /// Ends the job, and its open steps in the same transaction.
    async fn try_discard(
        &self,
        job: &Job,
        state: JobState,
        code: ErrorCode,
    ) -> Result<(), StoreError> {
        let failure = JobFailure::permanent(code, "the lease expired");
        let superseded_by = match (&job.unique_key, code) {
            (Some(key), ErrorCode::Superseded) => {
                let Some(available) = self.find_available(key).await? else {
                    // It was cancelled meanwhile: the next run makes this one available.
                    return Ok(());
                };
                Some(available)
            }
            _ => None,
        };
        let now = self.ctx.store.now();
        let pipeline = discard_pipeline(job, state, &failure, superseded_by, now)?;
        let ended = self
            .ctx
            .store
            .transaction(
                (self, job, pipeline, failure),
                |session, (this, job, pipeline, failure)| {
                    async move {
                        let ended = this
                            .jobs
                            .update_one(this.still_lost(job), pipeline.clone())
                            .session(&mut *session)
                            .await?;
                        if ended.matched_count == 1 {
                            this.ctx
                                .jobs
                                .fail_open_steps(session, job, failure, now)
                                .await?;
                        }
                        Ok::<(), TransactionError<Infallible>>(())
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

    /// Repeats the condition in the filter: the holder may renew or settle concurrently.
    fn still_lost(&self, job: &Job) -> Document {
        let token = job
            .lease
            .as_ref()
            .map_or(Bson::Null, |lease| lease.token.into());
        let mut lost = self.is_expired(job.id.into());
        lost.insert("lease.token", token);
        lost
    }

    fn is_expired(&self, id: Bson) -> Document {
        let expired_before = doc! { "$subtract": ["$$NOW", millis(self.times.rescue_delay())] };
        doc! {
            "_id": id,
            "state": JobState::Running.name(),
            "$expr": { "$lt": ["$lease.until", expired_before] },
        }
    }

    async fn find_available(&self, unique_key: &str) -> Result<Option<JobId>, StoreError> {
        #[derive(serde::Deserialize)]
        struct Available {
            #[serde(rename = "_id")]
            id: JobId,
        }
        let available = doc! { "uniqueKey": unique_key, "state": JobState::Available.name() };
        let found = self
            .jobs
            .clone_with_type::<Available>()
            .find_one(available)
            .projection(doc! { "_id": 1 })
            .await?;
        Ok(found.map(|job| job.id))
    }
}

fn discard_pipeline(
    job: &Job,
    state: JobState,
    failure: &JobFailure,
    superseded_by: Option<JobId>,
    now: DateTime,
) -> Result<Vec<Document>, StoreError> {
    let mut set = doc! {
        "state": state.name(),
        "error": { "$literal": to_bson(failure)? },
        "crashes": crashes(job),
        "attempts": append_attempt(&lost_attempt(job, now))?,
        "finishedAt": "$$NOW",
        "updatedAt": "$$NOW",
        "revision": { "$add": ["$revision", 1_i64] },
    };
    if let Some(retention) = state.retention() {
        set.insert("expireAt", clock::later(now, retention));
    }
    if let Some(by) = superseded_by {
        set.insert("supersededBy", by);
    }
    Ok(vec![
        doc! { "$unset": ["lease", "error", "sealed", "cancelRequested"] },
        doc! { "$set": set },
    ])
}

/// The crashes of a job, this one included. Only a handler that had started can have crashed its worker.
fn crashes(job: &Job) -> i32 {
    let started = job
        .lease
        .as_ref()
        .is_some_and(|lease| lease.started_at.is_some());
    job.crashes + i32::from(started)
}

fn lost_attempt(job: &Job, now: DateTime) -> Attempt {
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
        error: Some("the lease expired".to_owned()),
        upstream_request_ids: Vec::new(),
    }
}
