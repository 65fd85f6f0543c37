//! Recording of step ends: one transaction writes the job, then the job's target through its [`StepSink`].
//!
//! The job is *written* first, with the fencing token in the filter. Reading the token would not fence: a dead worker's
//! write to the target would not conflict with the claim that replaced it (write skew).
//!
//! Concurrent records share a transaction ([group commit](super::group_commit)), whose commands and commit cost as much
//! for one job as for fifty. If any of them meets a conflict, each is recorded by a transaction of its own, as here.

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::{JobId, LeaseToken},
    platform::change_feed::DocumentChange,
    queue::job::{Job, Step},
    store::{StoreError, TransactionError, to_bson},
};
use futures::FutureExt as _;
use mongodb::{ClientSession, Collection, options::ReturnDocument};
use tokio::sync::{mpsc, oneshot};

use super::EngineTimings;
use crate::{
    context::Context,
    steps::{Reported, StepEnd, StepReport, StepSink, StepTarget},
};

/// The most records in one transaction.
pub(super) const MAX_GROUP: usize = 64;

/// The result of recording step ends.
#[derive(Debug, Clone)]
pub(crate) enum RecordResult {
    /// Job and target are written.
    Written {
        /// Whether cancellation of the job was requested.
        cancel_requested: bool,
        /// The target as it is now, if the job reports to one.
        target: Option<Arc<dyn StepTarget>>,
    },
    /// The job alone is written: the target's desired state has changed since it was loaded.
    Outdated {
        /// Whether cancellation of the job was requested.
        cancel_requested: bool,
    },
    /// Nothing is written: another worker holds the lease.
    LeaseLost,
    /// Nothing is written, and a repetition would fail, too: the database is well, and one of the documents is not.
    Refused(StoreError),
}

/// The sink that a job reports to, with its target.
#[derive(Debug, Clone)]
pub(crate) struct Reporting {
    pub(crate) sink: Arc<dyn StepSink>,
    /// As last read or written by this worker.
    pub(crate) target: Arc<dyn StepTarget>,
}

/// A job whose lease this worker holds.
#[derive(Debug, Clone)]
pub(crate) struct LeaseHolder {
    pub(crate) id: JobId,
    pub(crate) token: LeaseToken,
    /// `None` for a job that reports to no document, such as a dry run.
    pub(crate) reporting: Option<Reporting>,
    /// Whether the target's desired state has changed since it was loaded.
    pub(crate) is_outdated: bool,
}

/// Step ends of one job, to be recorded.
#[derive(Debug)]
pub(super) struct StepRecord {
    pub(super) holder: LeaseHolder,
    /// All steps of the job as they are now.
    pub(super) steps: Vec<Step>,
    pub(super) ends: Vec<StepEnd>,
    pub(super) done: oneshot::Sender<Result<RecordResult, StoreError>>,
}

impl StepRecord {
    /// The job, if this worker still holds its lease.
    pub(super) fn job_filter(&self) -> Document {
        doc! { "_id": self.holder.id, "lease.token": self.holder.token }
    }

    pub(super) fn job_update(&self, now: DateTime) -> Result<Document, StoreError> {
        let mut set = doc! {
            "steps": to_bson(&self.steps)?,
            "lease.startedAt": now,
            "updatedAt": now,
        };
        if self.ends.iter().any(|end| end.attempted) {
            // Progress: a later crash has another cause.
            set.insert("crashes", 0);
            set.insert("rescued", false);
        }
        Ok(doc! { "$set": set, "$inc": { "revision": 1_i64 } })
    }

    pub(super) fn report<'a>(&'a self, reporting: &'a Reporting) -> StepReport<'a> {
        StepReport {
            job_id: self.holder.id,
            target: &*reporting.target,
            ends: &self.ends,
        }
    }

    pub(super) fn changes(&self) -> Vec<DocumentChange> {
        let mut changes = vec![DocumentChange::Job(self.holder.id)];
        if let Some(reporting) = &self.holder.reporting {
            changes.extend(reporting.target.changes());
        }
        changes
    }
}

struct LeaseLost;

/// Records step ends of all jobs of this process.
pub(super) struct StepRecorder {
    pub(super) ctx: Arc<Context>,
    pub(super) jobs: Collection<Job>,
    pub(super) times: EngineTimings,
    records: mpsc::Sender<StepRecord>,
}

impl StepRecorder {
    /// A recorder, and the queue that its [`record_loop`](Self::record_loop) serves.
    pub(super) fn new(
        ctx: Arc<Context>,
        times: &EngineTimings,
    ) -> (Arc<Self>, mpsc::Receiver<StepRecord>) {
        let (records, queue) = mpsc::channel(MAX_GROUP);
        let recorder = Self {
            jobs: ctx.store.collection("jobs"),
            ctx,
            times: times.clone(),
            records,
        };
        (Arc::new(recorder), queue)
    }

    /// Records these ends, and `steps` as the state of all steps of the job.
    pub(super) async fn record(
        &self,
        holder: LeaseHolder,
        steps: Vec<Step>,
        ends: Vec<StepEnd>,
    ) -> Result<RecordResult, StoreError> {
        // The process is ending, or a record panicked. The job is released.
        let interrupted = || StoreError::custom("recording was interrupted".to_owned());
        let (done, recorded) = oneshot::channel();
        let record = StepRecord {
            holder,
            steps,
            ends,
            done,
        };
        let sent = self.records.send(record).await;
        sent.map_err(|_| interrupted())?;
        recorded.await.map_err(|_| interrupted())?
    }

    /// Records in a transaction of its own.
    pub(super) async fn record_single(self: Arc<Self>, record: StepRecord) {
        let recorded = self.write_single(&record).await;
        if recorded.is_ok() {
            self.ctx.changes.publish(&record.changes()).await;
        }
        // The attempt may have been cancelled.
        let _ = record.done.send(recorded);
    }

    async fn write_single(&self, record: &StepRecord) -> Result<RecordResult, StoreError> {
        let now = self.ctx.store.now();
        let recorded = self
            .ctx
            .store
            .transaction((self, record), |session, (this, record)| {
                async move {
                    let cancel_requested = this.write_job(session, record, now).await?;
                    let Some(reporting) = &record.holder.reporting else {
                        return Ok(RecordResult::Written {
                            cancel_requested,
                            target: None,
                        });
                    };
                    let report = record.report(reporting);
                    let sink = &reporting.sink;
                    Ok(match sink.report(&this.ctx, session, report, now).await? {
                        Reported::Current(target) => RecordResult::Written {
                            cancel_requested,
                            target: Some(target),
                        },
                        Reported::Outdated => RecordResult::Outdated { cancel_requested },
                    })
                }
                .boxed()
            })
            .await;
        match recorded {
            Ok(recorded) => Ok(recorded),
            Err(TransactionError::Aborted(LeaseLost)) => Ok(RecordResult::LeaseLost),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    /// Writes the job under its fencing token. Returns whether cancellation was requested.
    async fn write_job(
        &self,
        session: &mut ClientSession,
        record: &StepRecord,
        now: DateTime,
    ) -> Result<bool, TransactionError<LeaseLost>> {
        let job = self
            .jobs
            .find_one_and_update(record.job_filter(), record.job_update(now)?)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?
            .ok_or(TransactionError::Aborted(LeaseLost))?;
        Ok(job.cancel_requested == Some(true))
    }
}
