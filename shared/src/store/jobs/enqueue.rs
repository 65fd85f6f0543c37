//! Putting a job in the queue, in the transaction of the change it serves.

use std::time::Duration;

use bson::{DateTime, doc};
use mongodb::{
    ClientSession,
    error::{ErrorKind, IndexedWriteError},
    options::ReturnDocument,
};
use serde::Serialize;

use super::JobRepository;
use crate::{
    id::JobId,
    platform::clock,
    queue::{
        job::{Job, JobArgs, JobState, Queue},
        secret_box::{EncryptionKeys, SealError},
    },
    store::{StoreError, to_document},
};

/// A job to be enqueued.
#[derive(Debug, Clone)]
pub struct NewJob {
    job: Job,
}

impl NewJob {
    /// A job of `args`' kind, due at once, asked for by `created_by`.
    pub fn new<A: JobArgs>(args: &A, created_by: &str, now: DateTime) -> Result<Self, StoreError> {
        let id = JobId::new();
        let tenant_id = args.tenant_id();
        let job = Job {
            id,
            kind: A::KIND.to_owned(),
            args: to_document(args)?,
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
            sealed: None,
            had_secrets: false,
        };
        Ok(Self { job })
    }

    /// The request that asks for it, and the trace it belongs to.
    #[must_use]
    pub fn requested_by(mut self, request_id: Option<String>, traceparent: Option<String>) -> Self {
        self.job.request_id = request_id;
        self.job.traceparent = traceparent;
        self
    }

    /// Due only at `run_at`.
    #[must_use]
    pub fn run_at(mut self, run_at: DateTime) -> Self {
        self.job.run_at = run_at;
        self.job.give_up_at = give_up_at(self.job.queue, run_at);
        self
    }

    /// Due not before `at`.
    #[must_use]
    pub fn not_before(self, at: DateTime) -> Self {
        let run_at = self.job.run_at.max(at);
        self.run_at(run_at)
    }

    /// With secrets that only its own steps can read. They go with the job: once it is final nobody can.
    pub fn with_secrets(
        mut self,
        keys: &EncryptionKeys,
        secrets: &impl Serialize,
    ) -> Result<Self, SealError> {
        self.job.sealed = Some(keys.encrypt(self.job.id, secrets)?);
        self.job.had_secrets = true;
        Ok(self)
    }

    /// Made by `parent`, as one of many; `subject` says which. The same one is the same job, however often it is made.
    #[must_use]
    pub fn child_of(mut self, parent: &Job, subject: &str) -> Self {
        let id = JobId::deterministic(parent.id, subject);
        if self.job.lock_key == job_lock_key(self.job.id) {
            self.job.lock_key = job_lock_key(id);
        }
        self.job.id = id;
        self.job.parent = Some(parent.id);
        self.job.created_by.clone_from(&parent.created_by);
        // What many wait for is in nobody's way.
        self.job.priority = 2;
        self.requested_by(parent.request_id.clone(), parent.traceparent.clone())
    }

    /// As it will be stored.
    pub fn job(&self) -> &Job {
        &self.job
    }

    /// The same work as `job`, which is final, from the start.
    pub(super) fn requeue_of(job: &Job, created_by: &str, now: DateTime) -> Self {
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

fn is_duplicate(error: &IndexedWriteError) -> bool {
    error.code == 11000
}

/// The lock of work that is in nobody's way.
pub fn job_lock_key(id: JobId) -> String {
    format!("job:{id}")
}

/// When a job of this queue that is first due at `run_at` is given up.
pub(super) fn give_up_at(queue: Queue, run_at: DateTime) -> Option<DateTime> {
    queue
        .max_age()
        .map(|after: Duration| clock::later(run_at, after))
}

impl JobRepository {
    /// Enqueues a job, or joins the one with its unique key that waits. After the commit, tell the ready set.
    ///
    /// A join **writes** the job it joins. Catching the duplicate would abort the transaction, and only reading it
    /// would let a worker claim it with the old intent before the new one is committed. It starts the steps afresh,
    /// since the intent is new.
    pub async fn enqueue(
        &self,
        session: &mut ClientSession,
        new: &NewJob,
    ) -> Result<Job, StoreError> {
        let job = &new.job;
        let Some(unique_key) = &job.unique_key else {
            return self.insert(session, new).await;
        };

        let waiting = doc! { "uniqueKey": unique_key, "state": JobState::Available.name() };
        let mut afresh =
            doc! { "attempt": 0, "crashes": 0, "steps": [], "updatedAt": job.updated_at };
        if let Some(give_up_at) = job.give_up_at {
            afresh.insert("giveUpAt", give_up_at);
        }
        let sooner = doc! { "runAt": job.run_at, "priority": job.priority };
        // What a fresh job has besides: neither given by the filter nor written by the other operators.
        let mut the_rest = to_document(job)?;
        for written in waiting.keys().chain(afresh.keys()).chain(sooner.keys()) {
            the_rest.remove(written);
        }
        the_rest.remove("revision");

        let update = doc! {
            "$setOnInsert": the_rest,
            "$min": sooner,
            "$set": afresh,
            "$unset": { "error": "", "cancelRequested": "" },
            "$inc": { "revision": 1_i64 },
        };
        let joined = self
            .jobs
            .find_one_and_update(waiting, update)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?;
        joined.ok_or_else(|| StoreError::custom("an upsert returned nothing"))
    }

    /// Enqueues a job that has nothing to join: no other can have its unique key, as what it is about is new.
    pub async fn enqueue_new(
        &self,
        session: &mut ClientSession,
        new: &NewJob,
    ) -> Result<Job, StoreError> {
        self.insert(session, new).await
    }

    async fn insert(&self, session: &mut ClientSession, new: &NewJob) -> Result<Job, StoreError> {
        self.jobs.insert_one(&new.job).session(session).await?;
        Ok(new.job.clone())
    }

    /// Enqueues jobs that serve no change of anything else, outside of a transaction. One that is there already is left
    /// alone, and so is one whose work a waiting job does in any case. Says how many were enqueued; after this, tell the
    /// ready set.
    pub async fn enqueue_many(&self, new: &[NewJob]) -> Result<usize, StoreError> {
        if new.is_empty() {
            return Ok(0);
        }
        let inserted = self
            .jobs
            .insert_many(new.iter().map(|new| &new.job))
            .ordered(false)
            .await;
        match inserted {
            Ok(inserted) => Ok(inserted.inserted_ids.len()),
            Err(error) => match error.kind.as_ref() {
                ErrorKind::InsertMany(failed)
                    if failed.write_concern_error.is_none()
                        && failed.write_errors.iter().flatten().all(is_duplicate) =>
                {
                    let refused = failed.write_errors.as_ref().map_or(0, Vec::len);
                    Ok(new.len() - refused)
                }
                _ => Err(error),
            },
        }
    }
}
