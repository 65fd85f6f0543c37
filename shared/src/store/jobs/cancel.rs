//! Cancelling, discarding and requeueing jobs from outside their handlers.

use bson::{DateTime, Document, doc};
use mongodb::{ClientSession, options::ReturnDocument};

use super::JobRepository;
use crate::{
    id::{JobId, MemberId},
    member::MemberStatus,
    platform::clock,
    queue::{
        args::{DeprovisionTenant, RemoveMember},
        error_code::ErrorCode,
        job::{Dismissal, Job, JobArgs as _, JobFailure, JobState},
        new_job::{NewJob, give_up_at},
        priority::Priority,
        reporting::{others_reporting_to_member, others_reporting_to_tenant},
    },
    store::{StoreError, TransactionError, VersionedRepository as _, is_undecodable, to_bson},
    tenant::TenantStatus,
};

/// Reason why a job cannot be cancelled or discarded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// Job not found.
    #[error("job not found")]
    NotFound,
    /// The job is already final.
    #[error("the job is already {}", .0.name())]
    Final(JobState),
    /// The job purges a tenant or a member; only restoring them stops it.
    #[error("the job is a scheduled purge")]
    Purge,
    /// The job is running, so it can be cancelled but not discarded.
    #[error("the job is running")]
    Running,
}

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

/// Reason why a job cannot be dismissed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DismissError {
    /// Job not found.
    #[error("job not found")]
    NotFound,
    /// The job is not discarded.
    #[error("the job is not discarded")]
    NotDiscarded,
}

/// A cancelled or discarded job.
#[derive(Debug, Clone, PartialEq)]
pub struct Cancelled {
    /// The job.
    pub job: Job,
    /// Whether cancellation was not requested before.
    pub is_new: bool,
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
    /// Cancels a job: at once if available, after the current step if running.
    pub async fn cancel(
        &self,
        session: &mut ClientSession,
        id: JobId,
        now: DateTime,
    ) -> Result<Cancelled, TransactionError<CancelError>> {
        if let Some(job) = self.find_in_transaction(session, id).await?
            && self.purges_at(session, &job).await?.is_some()
        {
            return Err(TransactionError::Aborted(CancelError::Purge));
        }
        let failure = JobFailure::permanent(ErrorCode::Cancelled, "cancelled on request");
        let ended = self
            .finish_available(session, id, JobState::Cancelled, &failure, now)
            .await?;
        match ended {
            Some(job) => Ok(Cancelled { job, is_new: true }),
            None => self.request_cancel(session, id, now).await,
        }
    }

    /// Discards an available job on an operator's request.
    pub async fn discard(
        &self,
        session: &mut ClientSession,
        id: JobId,
        now: DateTime,
    ) -> Result<Job, TransactionError<CancelError>> {
        let job = self.find_in_transaction(session, id).await?;
        let job = job.ok_or(TransactionError::Aborted(CancelError::NotFound))?;
        if self.purges_at(session, &job).await?.is_some() {
            return Err(TransactionError::Aborted(CancelError::Purge));
        }
        let failure = JobFailure::permanent(ErrorCode::Cancelled, "discarded on request");
        let ended = self
            .finish_available(session, id, JobState::Discarded, &failure, now)
            .await?;
        ended.ok_or(TransactionError::Aborted(if job.state.is_final() {
            CancelError::Final(job.state)
        } else {
            CancelError::Running
        }))
    }

    /// Dismisses a discarded job: bulk operations no longer select it. Returns whether it was not dismissed before.
    pub async fn dismiss(
        &self,
        session: &mut ClientSession,
        id: JobId,
        by: &str,
        now: DateTime,
    ) -> Result<(Job, bool), TransactionError<DismissError>> {
        let dismissal = Dismissal {
            at: now,
            by: by.to_owned(),
        };
        let discarded = doc! {
            "_id": id,
            "state": JobState::Discarded.name(),
            "dismissed": { "$exists": false },
        };
        let update = doc! {
            "$set": { "dismissed": to_bson(&dismissal)?, "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        let dismissed = self
            .jobs
            .find_one_and_update(discarded, update)
            .return_document(ReturnDocument::After)
            .session(&mut *session)
            .await?;
        if let Some(job) = dismissed {
            return Ok((job, true));
        }
        match self.find_in_transaction(session, id).await? {
            Some(job) if job.dismissed.is_some() => Ok((job, false)),
            Some(_) => Err(TransactionError::Aborted(DismissError::NotDiscarded)),
            None => Err(TransactionError::Aborted(DismissError::NotFound)),
        }
    }

    /// The job with this id, as seen by this transaction.
    pub async fn find_in_transaction(
        &self,
        session: &mut ClientSession,
        id: JobId,
    ) -> Result<Option<Job>, StoreError> {
        self.jobs
            .find_one(doc! { "_id": id })
            .session(session)
            .await
    }

    /// Time of the purge, if `job` is the scheduled purge of a tenant or a member. Run early or cancelled, it would be the
    /// last job to report on them, and they would stay as they are.
    async fn purges_at(
        &self,
        session: &mut ClientSession,
        job: &Job,
    ) -> Result<Option<DateTime>, StoreError> {
        if job.state.is_final() {
            return Ok(None);
        }
        let due = |at: Option<DateTime>| at.or(Some(job.run_at));
        match (job.kind.as_str(), job.tenant_id, job.member_id()) {
            (DeprovisionTenant::KIND, Some(id), _) => {
                let found = self.tenants.find_in_transaction(session, id).await?;
                let purged = found.filter(|tenant| tenant.status == TenantStatus::Terminating);
                Ok(purged.and_then(|tenant| due(tenant.purge_at)))
            }
            (RemoveMember::KIND, _, Some(id)) => {
                let found = self.members.find_in_transaction(session, id).await?;
                let purged = found.filter(|member| member.status == MemberStatus::Removing);
                Ok(purged.and_then(|member| due(member.purge_at)))
            }
            _ => Ok(None),
        }
    }

    async fn request_cancel(
        &self,
        session: &mut ClientSession,
        id: JobId,
        now: DateTime,
    ) -> Result<Cancelled, TransactionError<CancelError>> {
        let running = doc! { "_id": id, "state": JobState::Running.name(), "cancelRequested": { "$ne": true } };
        let request = doc! { "$set": { "cancelRequested": true, "updatedAt": now }, "$inc": { "revision": 1_i64 } };
        let requested = self
            .jobs
            .find_one_and_update(running, request)
            .return_document(ReturnDocument::After)
            .session(&mut *session)
            .await?;
        if let Some(job) = requested {
            return Ok(Cancelled { job, is_new: true });
        }
        let job = self
            .jobs
            .find_one(doc! { "_id": id })
            .session(session)
            .await?
            .ok_or(TransactionError::Aborted(CancelError::NotFound))?;
        if job.state.is_final() {
            return Err(TransactionError::Aborted(CancelError::Final(job.state)));
        }
        Ok(Cancelled { job, is_new: false })
    }

    /// Finishes an available job and reports to its tenant. `None` if it is not available.
    pub async fn finish_available(
        &self,
        session: &mut ClientSession,
        id: JobId,
        state: JobState,
        failure: &JobFailure,
        now: DateTime,
    ) -> Result<Option<Job>, StoreError> {
        let waiting = doc! { "_id": id, "state": JobState::Available.name() };
        let mut end = doc! {
            "state": state.name(),
            "error": to_bson(failure)?,
            "finishedAt": now,
            "updatedAt": now,
        };
        if let Some(kept_for) = state.retention() {
            end.insert("expireAt", clock::later(now, kept_for));
        }
        let update =
            doc! { "$set": end, "$unset": { "sealed": "" }, "$inc": { "revision": 1_i64 } };
        let ended = self
            .jobs
            .find_one_and_update(waiting, update)
            .return_document(ReturnDocument::After)
            .session(&mut *session)
            .await?;
        if let Some(job) = &ended {
            self.fail_open_steps(session, job, failure, now).await?;
        }
        Ok(ended)
    }

    /// Fails the open steps of a job that ended outside its handler in the conditions of its tenant or member, which would
    /// otherwise stay `pending` without a job. Another job that will still run for them reports for itself.
    pub async fn fail_open_steps(
        &self,
        session: &mut ClientSession,
        job: &Job,
        failure: &JobFailure,
        now: DateTime,
    ) -> Result<(), StoreError> {
        if let Some(member_id) = job.member_id() {
            return self
                .fail_member(session, job, member_id, failure, now)
                .await;
        }
        let Some(tenant_id) = job.tenant_id else {
            return Ok(());
        };
        if !job.reports_to_tenant() {
            return Ok(());
        }
        // Locked before the query for other jobs: two jobs ending concurrently would each rely on the other.
        let tenant = self.tenants.find_for_update(session, tenant_id).await;
        let Some(mut tenant) = if_readable(tenant, job)? else {
            return Ok(());
        };
        let others = others_reporting_to_tenant(tenant_id, job.id);
        if self.any_will_report(session, others).await? {
            return Ok(());
        }
        tenant.provisioning_mut().fail_waiting(failure, now);
        tenant.updated_at = now;
        self.tenants.save(session, &tenant).await
    }

    /// As [`fail_open_steps`](Self::fail_open_steps), for a job about a member.
    async fn fail_member(
        &self,
        session: &mut ClientSession,
        job: &Job,
        member_id: MemberId,
        failure: &JobFailure,
        now: DateTime,
    ) -> Result<(), StoreError> {
        // Locked before the query for other jobs, as a tenant is.
        let member = self.members.find_for_update(session, member_id).await;
        let Some(mut member) = if_readable(member, job)? else {
            return Ok(());
        };
        let others = others_reporting_to_member(member.tenant_id, member_id, job.id);
        if self.any_will_report(session, others).await? {
            return Ok(());
        }
        member.provisioning_mut().fail_waiting(failure, now);
        member.updated_at = now;
        self.members.save(session, &member).await
    }

    /// Whether one of `others` is available, or running with steps to attempt.
    async fn any_will_report(
        &self,
        session: &mut ClientSession,
        mut others: Document,
    ) -> Result<bool, StoreError> {
        let states = vec![
            doc! { "state": JobState::Available.name() },
            doc! { "state": JobState::Running.name(), "$nor": [all_steps_over()] },
        ];
        others.insert("$or", states);
        // Not decoded: a job of a newer build is on its way, too.
        let found = self
            .jobs
            .clone_with_type::<Document>()
            .find_one(others)
            .projection(doc! { "_id": 1 })
            .session(session)
            .await?;
        Ok(found.is_some())
    }

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

/// The priority of a requeued job: one that withdraws access stays before all else, and no one that waits becomes less
/// urgent.
fn requeued_priority(job: &Job, priority: Priority) -> Priority {
    match job.priority {
        Priority::Security => Priority::Security,
        Priority::Interactive | Priority::Bulk if job.state.is_final() => priority,
        waiting => waiting.min(priority),
    }
}

/// Matches a job that has begun its steps and attempts none of them again. Running, it only waits for its settlement and
/// reports nothing more, also about a desired state that changed since.
fn all_steps_over() -> Document {
    let done = doc! { "state": { "$in": ["ok", "skipped"] } };
    let permanently_failed =
        doc! { "state": { "$in": ["error", "unknown"] }, "nextAt": { "$exists": false } };
    let open = doc! { "$elemMatch": { "$nor": [done, permanently_failed] } };
    doc! { "steps.0": { "$exists": true }, "steps": { "$not": open } }
}

/// The document that `job` reports to. `None` also if this build cannot read it: otherwise the job could not end, and the
/// lock of a running one would be held for ever.
fn if_readable<T>(
    found: Result<Option<T>, StoreError>,
    job: &Job,
) -> Result<Option<T>, StoreError> {
    match found {
        Err(error) if is_undecodable(&error) => {
            tracing::error!(job.id = %job.id, job.kind = %job.kind, %error, "Cannot read the document of a job; ending the job without a report");
            Ok(None)
        }
        found => found,
    }
}
