//! Cancelling, discarding and requeueing jobs from outside their handlers.

use bson::{DateTime, Document, doc};
use mongodb::{ClientSession, options::ReturnDocument};

use super::JobRepository;
use crate::{
    id::{JobId, TenantId},
    platform::clock,
    queue::{
        args::{DeprovisionTenant, ProvisionDomain, RecheckDomain, RemoveDomain, SetDmarc},
        error_code::ErrorCode,
        job::{Job, JobArgs as _, JobFailure, JobState},
        new_job::{NewJob, give_up_at},
        priority::Priority,
    },
    store::{StoreError, TransactionError, VersionedRepository as _, is_undecodable, to_bson},
    tenant::{Condition, ConditionStatus, ProvisioningState, Tenant, TenantStatus, condition_type},
    upstream::Upstream,
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
    /// The job purges a tenant; only restoring the tenant stops it.
    #[error("the job purges a tenant")]
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
    /// The job purges a tenant that can still be restored.
    #[error("the tenant can still be restored")]
    PurgeNotDue,
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
        if let Some(job) = self.find_in(session, id).await?
            && self.purged_by(session, &job).await?.is_some()
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
        let job = self.find_in(session, id).await?;
        let job = job.ok_or(TransactionError::Aborted(CancelError::NotFound))?;
        if self.purged_by(session, &job).await?.is_some() {
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

    /// The job with this id, as seen by this transaction.
    pub async fn find_in(
        &self,
        session: &mut ClientSession,
        id: JobId,
    ) -> Result<Option<Job>, StoreError> {
        self.jobs
            .find_one(doc! { "_id": id })
            .session(session)
            .await
    }

    /// The tenant that `job` is to purge. Run early or cancelled, the job would be the last one to report on the
    /// tenant, which would stay terminating.
    async fn purged_by(
        &self,
        session: &mut ClientSession,
        job: &Job,
    ) -> Result<Option<Tenant>, StoreError> {
        let (DeprovisionTenant::KIND, Some(id), false) =
            (job.kind.as_str(), job.tenant_id, job.state.is_final())
        else {
            return Ok(None);
        };
        let tenant = self.tenants.find_in_transaction(session, id).await?;
        Ok(tenant.filter(|tenant| tenant.status == TenantStatus::Terminating))
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

    /// Fails the open steps of a job that ended outside its handler in the tenant's conditions, so that the tenant does
    /// not stay `pending` without a job. Another job that will still run for the tenant reports for itself.
    pub async fn fail_open_steps(
        &self,
        session: &mut ClientSession,
        job: &Job,
        failure: &JobFailure,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let Some(tenant_id) = job.tenant_id else {
            return Ok(());
        };
        if !job.reports_to_tenant() {
            return Ok(());
        }
        // Locked before the query for other jobs: two jobs ending concurrently would each rely on the other.
        let tenant = self.tenants.find_for_update(session, tenant_id).await;
        let tenant = match tenant {
            // Otherwise its jobs could not end, and the lock of a running one would be held for ever.
            Err(error) if is_undecodable(&error) => {
                tracing::error!(tenant.id = %tenant_id, %error, "Cannot read a tenant; ending its job without a report");
                None
            }
            tenant => tenant?,
        };
        let Some(mut tenant) = tenant else {
            return Ok(());
        };
        if self
            .another_is_on_its_way(session, tenant_id, job.id)
            .await?
        {
            return Ok(());
        }
        for upstream in Upstream::ALL {
            let waits = tenant
                .condition(upstream)
                .is_some_and(|condition| condition.next_attempt_at.is_some());
            if !waits && *tenant.provisioning_status.get(upstream) != ProvisioningState::Pending {
                continue;
            }
            *tenant.provisioning_status.get_mut(upstream) = ProvisioningState::Error;
            *tenant.provisioning_errors.get_mut(upstream) = Some(failure.message.clone());
            tenant.set_condition(Condition {
                kind: condition_type(upstream).to_owned(),
                status: ConditionStatus::False,
                reason: failure.code.reason().to_owned(),
                message: failure.message.clone(),
                observed_generation: tenant.generation,
                last_transition_at: now,
                next_attempt_at: None,
                class: Some(failure.class),
            });
        }
        tenant.updated_at = now;
        self.tenants.save(session, &tenant).await
    }

    async fn another_is_on_its_way(
        &self,
        session: &mut ClientSession,
        tenant: TenantId,
        except: JobId,
    ) -> Result<bool, StoreError> {
        let others = doc! {
            "tenantId": tenant,
            "_id": { "$ne": except },
            "$or": [
                { "state": JobState::Available.name() },
                { "state": JobState::Running.name(), "$nor": [all_steps_over()] },
            ],
            // A dry run does not report to the tenant, nor does a job about one domain, nor a scheduled purge before
            // its time.
            "args.dryRun": { "$ne": true },
            "kind": { "$nin": [
                DeprovisionTenant::KIND,
                ProvisionDomain::KIND,
                SetDmarc::KIND,
                RemoveDomain::KIND,
                RecheckDomain::KIND,
            ] },
        };
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
    /// back; a final job is cloned.
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
        let Some(job) = self.find_in(session, id).await? else {
            return Err(TransactionError::Aborted(RequeueError::NotFound));
        };
        if job.state != JobState::Available {
            return Ok(None);
        }
        let purged = self.purged_by(session, &job).await?;
        if purged.is_some_and(|tenant| tenant.purge_at.is_some_and(|at| at > now)) {
            return Err(TransactionError::Aborted(RequeueError::PurgeNotDue));
        }
        // Every incomplete step is due now, including permanently failed ones.
        let steps = job.steps.iter().cloned().map(|mut step| {
            if !step.state.is_done() {
                step.next_at = Some(now);
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
        let Some(job) = self.find_in(session, id).await? else {
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
        let job = self.enqueue(session, &clone).await?;
        Ok(Requeued { job, is_new: true })
    }
}

/// The priority of a requeued job: one that withdraws access stays before all else.
fn requeued_priority(job: &Job, priority: Priority) -> Priority {
    match job.priority {
        Priority::Security => Priority::Security,
        Priority::Interactive | Priority::Bulk => priority,
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
