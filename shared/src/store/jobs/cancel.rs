//! Cancelling, discarding and dismissing jobs from outside their handlers.

use bson::{DateTime, doc};
use mongodb::{ClientSession, options::ReturnDocument};

use super::JobRepository;
use crate::{
    id::JobId,
    member::MemberStatus,
    platform::clock,
    queue::{
        args::{DeprovisionTenant, RemoveMember},
        error_code::ErrorCode,
        job::{Dismissal, Job, JobArgs as _, JobFailure, JobState},
    },
    store::{StoreError, TransactionError, VersionedRepository as _, to_bson},
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
    pub(super) async fn purges_at(
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
}
