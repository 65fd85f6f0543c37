//! Requeue, cancel and dismiss.

use dezky_shared::{
    audit::{Action, Target},
    id::JobId,
    platform::change_feed::DocumentChange,
    queue::{job::Job, priority::Priority},
    store::{
        TransactionError,
        jobs::{CancelError, Cancelled, DismissError, RequeueError, Requeued},
    },
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;

use super::{JobView, find};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Access, EmptyBody, Operator, PathParam, PlatformSupport},
    response::ApiResponse,
    views::job_href,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Requeues a job
///
/// A waiting job runs at once, with its attempts reset. A finished job is copied and the copy is run.
#[utoipa::path(post, path = "/jobs/{id}/requeue", operation_id = "requeueJob", tag = "jobs", responses((status = 202, body = JobView)))]
pub(super) async fn requeue(
    w: Write<PlatformSupport, EmptyBody, PathParam<JobId>>,
) -> Result<ApiResponse, ApiError> {
    change(&w, JobAction::Requeue).await
}

/// Cancels a job
///
/// A waiting job is cancelled at once; a running one after its current step.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", operation_id = "cancelJob", tag = "jobs",
    responses((status = 200, body = JobView), (status = 202, body = JobView)),
)]
pub(super) async fn cancel(
    w: Write<Operator, EmptyBody, PathParam<JobId>>,
) -> Result<ApiResponse, ApiError> {
    change(&w, JobAction::Cancel).await
}

/// Dismisses a discarded job
///
/// For a job that needs no repetition. Bulk operations no longer select it.
#[utoipa::path(post, path = "/jobs/{id}/dismiss", operation_id = "dismissJob", tag = "jobs", responses((status = 200, body = JobView)))]
pub(super) async fn dismiss(
    w: Write<Operator, EmptyBody, PathParam<JobId>>,
) -> Result<ApiResponse, ApiError> {
    change(&w, JobAction::Dismiss).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum JobAction {
    Requeue,
    Cancel,
    Dismiss,
}

struct JobChange {
    id: JobId,
    tenant: Option<Tenant>,
    action: JobAction,
}

async fn change<A: Access>(
    w: &Write<A, EmptyBody, PathParam<JobId>>,
    action: JobAction,
) -> Result<ApiResponse, ApiError> {
    let id = w.params.0;
    let (_, tenant) = find(&w.app, id).await?;
    let change = JobChange { id, tenant, action };
    match &change.tenant {
        None => w.run(&change).await,
        tenant @ Some(Tenant { slug, .. }) => {
            let runner = w.runner();
            let result = runner.run_serialized(slug, tenant.as_ref(), &change);
            Ok(result.await?.response)
        }
    }
}

impl Command for JobChange {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let now = app.store.now();
        let (job, is_change) = match self.action {
            JobAction::Cancel => {
                let result = app.db.jobs.cancel(session, self.id, now).await;
                let cancelled = cancelled(result)?;
                (cancelled.job, cancelled.is_new)
            }
            JobAction::Requeue => {
                let by = runner.actor_id();
                let result = app
                    .db
                    .jobs
                    .requeue(session, self.id, &by, Priority::Interactive, now)
                    .await;
                (requeued(result)?, true)
            }
            JobAction::Dismiss => {
                let by = runner.actor_id();
                let result = app.db.jobs.dismiss(session, self.id, &by, now).await;
                dismissed(result)?
            }
        };
        let (action, status) = match self.action {
            JobAction::Requeue => (Action::JobRequeue, StatusCode::ACCEPTED),
            JobAction::Cancel if job.state.is_final() => (Action::JobCancel, StatusCode::OK),
            JobAction::Cancel => (Action::JobCancel, StatusCode::ACCEPTED),
            JobAction::Dismiss => (Action::JobDismiss, StatusCode::OK),
        };
        let tenant = self.tenant.as_ref();
        let slug = tenant.map(|tenant| tenant.slug.clone());
        let view = JobView::new(job.clone(), slug, runner.caller);
        let response = ApiResponse::new(status, ETag::from(&job), &view).at(job_href(job.id));
        if !is_change {
            return Ok(CommandOutput::unchanged(response));
        }
        let event = runner.event(now, action, Target::new("job", self.id, &job.kind), tenant);
        let output = CommandOutput::complete(response, event).with_jobs(vec![job]);
        Ok(match tenant {
            Some(tenant) => output.with_changed(DocumentChange::Tenant(tenant.id)),
            None => output,
        })
    }
}

fn cancelled(
    result: Result<Cancelled, TransactionError<CancelError>>,
) -> Result<Cancelled, Rollback> {
    result.map_err(|error| match error {
        TransactionError::Store(error) => TransactionError::Store(error),
        TransactionError::Aborted(CancelError::NotFound) => ProblemCode::NotFound.into(),
        TransactionError::Aborted(CancelError::Final(_)) => ProblemCode::JobFinal.into(),
        TransactionError::Aborted(CancelError::Purge) => ProblemCode::PurgeScheduled.into(),
        TransactionError::Aborted(CancelError::Running) => ProblemCode::JobRunning.into(),
    })
}

fn dismissed(
    result: Result<(Job, bool), TransactionError<DismissError>>,
) -> Result<(Job, bool), Rollback> {
    result.map_err(|error| match error {
        TransactionError::Store(error) => TransactionError::Store(error),
        TransactionError::Aborted(DismissError::NotFound) => ProblemCode::NotFound.into(),
        TransactionError::Aborted(DismissError::NotDiscarded) => ProblemCode::NotDiscarded.into(),
    })
}

fn requeued(result: Result<Requeued, TransactionError<RequeueError>>) -> Result<Job, Rollback> {
    match result {
        Ok(requeued) => Ok(requeued.job),
        Err(TransactionError::Store(error)) => Err(TransactionError::Store(error)),
        Err(TransactionError::Aborted(error)) => Err(match error {
            RequeueError::NotFound => ProblemCode::NotFound,
            RequeueError::Running => ProblemCode::JobRunning,
            RequeueError::SecretsGone => ProblemCode::SecretsGone,
            RequeueError::PurgeNotDue => ProblemCode::PurgeScheduled,
        }
        .into()),
    }
}
