//! Commands: the change, its jobs (transactional enqueue), its audit events and the stored response in one transaction.

use std::future::Future;

use bson::DateTime;
use dezky_shared::{
    audit::{self, Action, AuditEvent, Target},
    platform::change_feed::DocumentChange,
    queue::job::Job,
    store::{
        StoreError, TransactionError, group_commit::Inserts, idempotency::IdempotencyKey,
        jobs::NewJob,
    },
    tenant::Tenant,
};
use futures::FutureExt as _;
use http::StatusCode;
use mongodb::ClientSession;

use super::{
    idempotency,
    rollback::{CommandError, Rollback},
};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{Caller, IfMatch, Prefer, RequestInfo},
    keyed_mutex::KeyedGuard,
    response::ApiResponse,
    state::AppState,
};

/// A change that a caller requests.
pub trait Command: Send + Sync {
    /// Makes the change. Runs again if the transaction conflicts with another one.
    fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> impl Future<Output = Result<CommandOutput, Rollback>> + Send;

    /// The change as inserts for a [group commit](dezky_shared::store::group_commit), if it depends on no stored
    /// document. The runner adds the audit events and the stored response.
    fn insert_in_group(
        &self,
        _inserts: &mut Inserts,
        _runner: &CommandRunner<'_>,
    ) -> Result<Option<CommandOutput>, StoreError> {
        Ok(None)
    }
}

/// Output of a command: its response, audit events and jobs.
#[derive(Debug)]
pub struct CommandOutput {
    /// The response.
    pub response: ApiResponse,
    /// Jobs that carry out the change. The response links to the first.
    pub jobs: Vec<Job>,
    /// Changed documents, besides the jobs, for the change feed.
    pub changed: Vec<DocumentChange>,
    /// Audit events.
    pub events: Vec<AuditEvent>,
}

impl CommandOutput {
    /// A command that found nothing to change.
    pub fn unchanged(response: ApiResponse) -> Self {
        Self {
            response,
            jobs: Vec::new(),
            changed: Vec::new(),
            events: Vec::new(),
        }
    }

    /// A change.
    pub fn complete(response: ApiResponse, event: AuditEvent) -> Self {
        Self {
            events: vec![event],
            ..Self::unchanged(response)
        }
    }

    /// Adds the jobs that carry out the change. The audit event links to the first.
    #[must_use]
    pub fn with_jobs(mut self, jobs: Vec<Job>) -> Self {
        if let Some(event) = self.events.first_mut() {
            event.job_id = jobs.first().map(|job| job.id);
        }
        self.jobs = jobs;
        self
    }

    /// Adds a changed document.
    #[must_use]
    pub fn with_changed(mut self, document: DocumentChange) -> Self {
        self.changed.push(document);
        self
    }

    /// Adds audit events of other documents.
    #[must_use]
    pub fn with_events(mut self, events: Vec<AuditEvent>) -> Self {
        self.events.extend(events);
        self
    }

    /// Marks the events of jobs as accepted if the jobs are still to run.
    pub(super) fn mark_accepted(&mut self) {
        if self.response.status != StatusCode::ACCEPTED {
            return;
        }
        let of_jobs = self
            .events
            .iter_mut()
            .filter(|event| event.job_id.is_some());
        of_jobs.for_each(|event| event.outcome = audit::Outcome::Accepted);
    }
}

/// Runs the commands of one request.
#[derive(Debug)]
pub struct CommandRunner<'a> {
    /// The application.
    pub app: &'a AppState,
    /// The caller.
    pub caller: &'a Caller,
    /// Id, trace and origin of the request.
    pub request: &'a RequestInfo,
    /// Precondition of the change.
    pub if_match: &'a IfMatch,
    /// Whether the caller waits for the outcome.
    pub prefer: Prefer,
    pub(super) key: Option<&'a IdempotencyKey>,
    /// The tenant that the caller's permissions are checked against.
    pub(super) tenant: Option<&'a Tenant>,
    pub(super) guard: Option<KeyedGuard<'a>>,
}

/// The outcome of a committed or replayed command.
#[derive(Debug)]
pub struct CommandResult {
    /// The response.
    pub response: ApiResponse,
    /// The job that the response links to. `None` in a replay.
    pub job: Option<Job>,
}

impl CommandRunner<'_> {
    /// Runs commands one at a time per `key`. The guard is held until the returned runner is dropped.
    pub async fn serialized_on<'t>(
        &'t self,
        key: &str,
        tenant: Option<&'t Tenant>,
    ) -> Result<CommandRunner<'t>, ApiError> {
        let guard = self.app.locks.lock(key).await?;
        Ok(CommandRunner {
            tenant,
            guard: Some(guard),
            ..*self
        })
    }

    /// Whether another request is queued for the same key.
    pub fn has_waiters(&self) -> bool {
        self.guard.as_ref().is_some_and(KeyedGuard::has_waiters)
    }

    /// The caller's id, as jobs store it.
    pub fn actor_id(&self) -> String {
        self.caller.user.id.to_string()
    }

    /// Runs `command` while no other command with the same `key` runs in this process.
    pub async fn run_serialized(
        &self,
        key: &str,
        tenant: Option<&Tenant>,
        command: &impl Command,
    ) -> Result<CommandResult, ApiError> {
        self.serialized_on(key, tenant).await?.run(command).await
    }

    /// Enqueues a job in the command's transaction, with the request's id and trace.
    pub async fn enqueue(
        &self,
        session: &mut ClientSession,
        job: NewJob,
    ) -> Result<Job, StoreError> {
        self.app
            .db
            .jobs
            .enqueue(session, &self.requested(job))
            .await
    }

    /// As [`enqueue`](Self::enqueue), for the first job of its lock key.
    pub async fn enqueue_new(
        &self,
        session: &mut ClientSession,
        job: NewJob,
    ) -> Result<Job, StoreError> {
        let job = self.requested(job);
        self.app.db.jobs.enqueue_new(session, &job).await
    }

    /// As [`enqueue_new`](Self::enqueue_new), in a group commit.
    pub fn enqueue_in_group(&self, inserts: &mut Inserts, job: NewJob) -> Result<Job, StoreError> {
        let job = self.requested(job);
        self.app.db.jobs.enqueue_in_group(inserts, &job)
    }

    fn requested(&self, job: NewJob) -> NewJob {
        let (id, trace) = (&self.request.id, &self.request.traceparent);
        job.requested_by(Some(id.clone()), trace.clone())
    }

    /// An audit event of this request.
    pub fn event(
        &self,
        now: DateTime,
        action: Action,
        target: Target,
        tenant: Option<&Tenant>,
    ) -> AuditEvent {
        let mut event = AuditEvent::new(
            now,
            self.caller.actor(tenant),
            action,
            target,
            self.request.origin(),
        );
        event.tenant_id = tenant.map(|tenant| tenant.id);
        event
    }

    /// Runs `command` and commits it, or returns the stored response to an earlier request with the same key. Workers
    /// and waiting requests are notified after the commit.
    pub async fn run(&self, command: &impl Command) -> Result<CommandResult, ApiError> {
        if let Some(output) = self.run_in_group(command).await? {
            return Ok(self.publish(output));
        }
        let committed = self
            .app
            .store
            .transaction((self, command), |session, (runner, command)| {
                runner.attempt(session, *command).boxed()
            })
            .await;
        match committed {
            Ok(output) => Ok(self.publish(output)),
            Err(TransactionError::Aborted(CommandError::Replay)) => {
                let key = self.key.ok_or(ProblemCode::IdempotencyInProgress)?;
                let response = idempotency::replay(self.app, key).await?;
                Ok(CommandResult {
                    response,
                    job: None,
                })
            }
            Err(TransactionError::Aborted(CommandError::Rejected(error))) => Err(*error),
            Err(TransactionError::Store(error)) => Err(ApiError::from_write(error)),
        }
    }

    /// One attempt of the transaction.
    async fn attempt(
        &self,
        session: &mut ClientSession,
        command: &impl Command,
    ) -> Result<CommandOutput, Rollback> {
        let work = async {
            if let Some(key) = self.key {
                idempotency::claim(self.app, session, key).await?;
            }
            command.run(session, self).await
        };
        // Concurrently: the keyed mutex is held meanwhile, and nothing is committed before both are done.
        let (permissions, output) = tokio::join!(self.recheck_permissions(), work);
        permissions?;
        let mut output = output?;
        output.mark_accepted();
        self.app
            .db
            .audit
            .record_all(session, &output.events)
            .await?;
        if let Some(key) = self.key {
            idempotency::store_response(self.app, session, key, &output.response).await?;
        }
        Ok(output)
    }

    /// Checks the permissions again if the request waited for the keyed mutex or its body.
    pub(super) async fn recheck_permissions(&self) -> Result<(), ApiError> {
        let waited = self.guard.as_ref().is_some_and(KeyedGuard::was_contended);
        if waited || self.caller.permissions_stale() {
            self.caller
                .recheck_permissions(&self.app.access, self.tenant)
                .await?;
        }
        Ok(())
    }

    /// Publishes the hints of a committed command, and returns its result.
    fn publish(&self, output: CommandOutput) -> CommandResult {
        let CommandOutput {
            response,
            jobs,
            changed,
            ..
        } = output;
        let job = jobs.first().cloned();
        self.app.hints.publish(jobs, changed);
        CommandResult { response, job }
    }
}
