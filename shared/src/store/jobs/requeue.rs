//! Requeueing: an available job runs now, and a final one is cloned.

use bson::{DateTime, doc};
use mongodb::{ClientSession, options::ReturnDocument};

use super::JobRepository;
use crate::{
    id::JobId,
    queue::{
        job::{Job, JobState},
        new_job::{NewJob, give_up_at},
        priority::Priority,
    },
    store::{TransactionError, to_bson},
};

/// Reason why a job cannot be requeued.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequeueError {
    /// Job not found.
    #[error("job not found")]
    NotFound,
    /// The job is running.
    #[error("the job is running")]
    Running,
    /// Its secrets were deleted when it became final.
    #[error("the job's secrets were deleted")]
    SecretsGone,
    /// The job purges a tenant or a member that can still be restored.
    #[error("the scheduled purge is not due")]
    PurgeNotDue,
}

/// A requeued job.
#[derive(Debug, Clone, PartialEq)]
pub struct Requeued {
    /// The job: the existing one if it was available, a new one if it was final.
    pub job: Job,
    /// Whether the job is new.
    pub is_new: bool,
}

impl JobRepository {
    /// Requeues a job to run now, in the lane `priority` unless it withdraws access. An available job gets its attempts
    /// back, and keeps its lane if that is more urgent; a final job is cloned.
    pub async fn requeue(
        &self,
        session: &mut ClientSession,
        id: JobId,
        created_by: &str,
        priority: Priority,
        now: DateTime,
    ) -> Result<Requeued, TransactionError<RequeueError>> {
        match self.run_now(session, id, priority, now).await? {
            Some(job) => Ok(Requeued { job, is_new: false }),
            None => {
                self.clone_finished(session, id, created_by, priority, now)
                    .await
            }
        }
    }

    async fn run_now(
        &self,
        session: &mut ClientSession,
        id: JobId,
        priority: Priority,
        now: DateTime,
    ) -> Result<Option<Job>, TransactionError<RequeueError>> {
        let Some(job) = self.find_in_transaction(session, id).await? else {
            return Err(TransactionError::Aborted(RequeueError::NotFound));
        };
        if job.state != JobState::Available {
            return Ok(None);
        }
        let purges_at = self.purges_at(session, &job).await?;
        if purges_at.is_some_and(|at| at > now) {
            return Err(TransactionError::Aborted(RequeueError::PurgeNotDue));
        }
        // Every incomplete step is due now, including permanently failed ones.
        let steps = job.steps.iter().cloned().map(|mut step| {
            if !step.state.is_done() {
                step.next_at = Some(now);
                // From its first item on: what went wrong before may lie behind the position.
                if let Some(progress) = &mut step.progress {
                    progress.cursor = None;
                }
            }
            step
        });
        let mut reset = doc! { "runAt": now, "attempt": 0, "crashes": 0, "updatedAt": now };
        reset.insert("priority", requeued_priority(&job, priority));
        reset.insert("steps", to_bson(&steps.collect::<Vec<_>>())?);
        if let Some(give_up_at) = give_up_at(job.queue, now) {
            reset.insert("giveUpAt", give_up_at);
        }
        let waiting = doc! { "_id": id, "state": JobState::Available.name() };
        let update = doc! {
            "$set": reset,
            "$unset": { "cancelRequested": "" },
            "$inc": { "revision": 1_i64 },
        };
        Ok(self
            .jobs
            .find_one_and_update(waiting, update)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?)
    }

    async fn clone_finished(
        &self,
        session: &mut ClientSession,
        id: JobId,
        created_by: &str,
        priority: Priority,
        now: DateTime,
    ) -> Result<Requeued, TransactionError<RequeueError>> {
        let Some(job) = self.find_in_transaction(session, id).await? else {
            return Err(TransactionError::Aborted(RequeueError::NotFound));
        };
        if !job.state.is_final() {
            return Err(TransactionError::Aborted(RequeueError::Running));
        }
        if job.had_secrets {
            return Err(TransactionError::Aborted(RequeueError::SecretsGone));
        }
        let clone = NewJob::requeue_of(&job, created_by, now)
            .with_priority(requeued_priority(&job, priority));
        let repetition = self.enqueue(session, &clone).await?;
        let repeated = doc! {
            "$set": { "requeuedTo": repetition.id, "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        let original = self.jobs.update_one(doc! { "_id": id }, repeated);
        original.session(session).await?;
        Ok(Requeued {
            job: repetition,
            is_new: true,
        })
    }
}

/// The priority of a requeued job: one that withdraws access stays in the security lane, and an available one becomes
/// no less urgent.
fn requeued_priority(job: &Job, priority: Priority) -> Priority {
    match job.priority {
        Priority::Security => Priority::Security,
        Priority::Interactive | Priority::Bulk if job.state.is_final() => priority,
        waiting => waiting.min(priority),
    }
}
