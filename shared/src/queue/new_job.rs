//! Builder of jobs to enqueue.

use std::time::Duration;

use bson::DateTime;
use mongodb::error::Error;
use serde::Serialize;

use super::{
    job::{Job, JobArgs, JobState, Queue},
    priority::Priority,
    secret_box::{EncryptionError, EncryptionKeys},
};
use crate::{
    id::{JobId, TenantId},
    platform::clock,
};

/// A job to enqueue.
#[derive(Debug, Clone)]
pub struct NewJob {
    job: Job,
}

impl NewJob {
    /// A job with `args`, due at once, requested by `created_by`.
    pub fn new<A: JobArgs>(args: &A, created_by: &str, now: DateTime) -> Result<Self, Error> {
        let id = JobId::new();
        let tenant_id = args.tenant_id();
        let job = Job {
            id,
            kind: A::KIND.to_owned(),
            args: bson::serialize_to_document(args)?,
            queue: A::QUEUE,
            tenant_id,
            priority: A::PRIORITY,
            state: JobState::Available,
            run_at: now,
            attempt: 0,
            max_attempts: A::QUEUE.max_attempts(),
            crashes: 0,
            rescued: false,
            snoozes: 0,
            give_up_at: give_up_at(A::QUEUE, now),
            lock_key: args.lock_key().unwrap_or_else(|| job_lock_key(id)),
            unique_key: args
                .unique_key()
                .map(|subject| format!("{}:{subject}", A::KIND)),
            lease: None,
            steps: Vec::new(),
            attempts: Vec::new(),
            error: None,
            cancel_requested: None,
            superseded_by: None,
            requeued_from: None,
            requeued_to: None,
            dismissed: None,
            parent: None,
            progress: None,
            created_by: created_by.to_owned(),
            request_id: None,
            traceparent: None,
            created_at: now,
            updated_at: now,
            finished_at: None,
            expire_at: None,
            revision: 1,
            secrets: None,
            had_secrets: false,
        };
        Ok(Self { job })
    }

    /// Sets the originating request and trace.
    #[must_use]
    pub fn requested_by(mut self, request_id: Option<String>, traceparent: Option<String>) -> Self {
        self.job.request_id = request_id;
        self.job.traceparent = traceparent;
        self
    }

    /// Sets the due time to `run_at`.
    #[must_use]
    pub fn run_at(mut self, run_at: DateTime) -> Self {
        self.job.run_at = run_at;
        self.job.give_up_at = give_up_at(self.job.queue, run_at);
        self
    }

    /// Delays the job until `at`, if it is due earlier.
    #[must_use]
    pub fn not_before(self, at: DateTime) -> Self {
        let run_at = self.job.run_at.max(at);
        self.run_at(run_at)
    }

    /// Sets the priority lane, if it is not that of the kind.
    #[must_use]
    pub fn with_priority(mut self, priority: Priority) -> Self {
        self.job.priority = priority;
        self
    }

    /// Attaches secrets that only the job's own steps can decrypt. They are deleted once the job is final.
    pub fn with_secrets(
        mut self,
        keys: &EncryptionKeys,
        secrets: &impl Serialize,
    ) -> Result<Self, EncryptionError> {
        self.job.secrets = Some(keys.encrypt(self.job.id, secrets)?);
        self.job.had_secrets = true;
        Ok(self)
    }

    /// Makes the job a child of `parent`. Its id is derived from `parent` and `subject`, so enqueueing it again is a
    /// no-op.
    #[must_use]
    pub fn child_of(mut self, parent: &Job, subject: &str) -> Self {
        let id = JobId::deterministic(parent.id, subject);
        if self.job.lock_key == job_lock_key(self.job.id) {
            self.job.lock_key = job_lock_key(id);
        }
        self.job.id = id;
        self.job.parent = Some(parent.id);
        self.job.created_by.clone_from(&parent.created_by);
        // A fan-out must not delay what a person waits for.
        self.with_priority(Priority::Bulk)
            .requested_by(parent.request_id.clone(), parent.traceparent.clone())
    }

    /// Derives the job's id from its kind, its tenant and the current `period`: enqueueing it again within the period is
    /// a no-op. For read-only jobs whose requests have no limit of their own.
    #[must_use]
    pub fn once_per(mut self, period: Duration) -> Self {
        let period = i64::try_from(period.as_millis()).unwrap_or(i64::MAX).max(1);
        let millis = self.job.created_at.timestamp_millis();
        let start = millis - millis.rem_euclid(period);
        // The timestamp of an id is its first six bytes, by which lists are sorted.
        let mut seed = self.job.tenant_id.map_or([0; 16], TenantId::bytes);
        seed[..6].copy_from_slice(&start.to_be_bytes()[2..]);
        let id = JobId::deterministic(JobId::from_bytes(seed), &self.job.kind);
        if self.job.lock_key == job_lock_key(self.job.id) {
            self.job.lock_key = job_lock_key(id);
        }
        self.job.id = id;
        self
    }

    /// The job as it will be stored.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// A clone of the final `job`, from its first step.
    pub(crate) fn requeue_of(job: &Job, created_by: &str, now: DateTime) -> Self {
        let id = JobId::new();
        let job = Job {
            id,
            state: JobState::Available,
            run_at: now,
            attempt: 0,
            crashes: 0,
            rescued: false,
            snoozes: 0,
            give_up_at: give_up_at(job.queue, now),
            lock_key: if job.lock_key == job_lock_key(job.id) {
                job_lock_key(id)
            } else {
                job.lock_key.clone()
            },
            lease: None,
            steps: Vec::new(),
            attempts: Vec::new(),
            error: None,
            cancel_requested: None,
            superseded_by: None,
            requeued_from: Some(job.id),
            requeued_to: None,
            dismissed: None,
            progress: None,
            created_by: created_by.to_owned(),
            created_at: now,
            updated_at: now,
            finished_at: None,
            expire_at: None,
            revision: 1,
            ..job.clone()
        };
        Self { job }
    }
}

/// Lock key of a job that blocks no other.
pub fn job_lock_key(id: JobId) -> String {
    format!("job:{id}")
}

/// Time at which a job of this queue, first due at `run_at`, is given up.
pub(crate) fn give_up_at(queue: Queue, run_at: DateTime) -> Option<DateTime> {
    queue
        .max_age()
        .map(|after: Duration| clock::later(run_at, after))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::args::{LookUpMfa, MeasureStorage};

    #[test]
    fn a_job_once_per_period_has_one_id_for_its_kind_tenant_and_period() {
        const MINUTE: Duration = Duration::from_mins(1);
        let [tenant_id, other] = [TenantId::new(), TenantId::new()];
        let id = |tenant_id, seconds: i64| {
            let at = DateTime::from_millis(1_795_339_800_000 + seconds * 1_000);
            let new = NewJob::new(&MeasureStorage { tenant_id }, "test", at).unwrap();
            new.once_per(MINUTE).job().id
        };
        let at = DateTime::from_millis(1_795_339_800_000);
        let of_other_kind = NewJob::new(&LookUpMfa { tenant_id }, "test", at).unwrap();

        assert_eq!(id(tenant_id, 0), id(tenant_id, 59));
        assert!(id(tenant_id, 0) < id(tenant_id, 60));
        assert_ne!(id(tenant_id, 0), id(other, 0));
        assert_ne!(id(tenant_id, 0), of_other_kind.once_per(MINUTE).job().id);
    }
}
