//! Running a job again, and stopping one.

use axum::extract::State;
use dezky_shared::{
    audit::{Action, Target},
    id::JobId,
    platform::change_feed::DocumentChange,
    queue::job::Job,
    store::{
        TransactionError,
        jobs::{CancelError, Cancelled, RequeueError, Requeued},
    },
    tenant::Tenant,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;

use super::{JobView, tenant_of, view};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        Caller, ETag, EmptyBody, Operator, PathParam, QueryParams, RequestInfo, ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
};

/// Runs a job again
///
/// One that waits runs at once, and gets its attempts back. Of one that is over a new one is made.
#[utoipa::path(
    post, path = "/jobs/{id}/requeue", operation_id = "requeueJob", tag = "jobs",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 202, body = JobView), (status = "default", response = Problem)),
)]
pub(super) async fn requeue(
    Operator(caller): Operator,
    PathParam(id): PathParam<JobId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    change(&app, &caller, &request, &submitted, id, Wanted::Requeue).await
}

/// Stops a job
///
/// One that waits is over at once; one that runs, when its present step has ended.
#[utoipa::path(
    post, path = "/jobs/{id}/cancel", operation_id = "cancelJob", tag = "jobs",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, body = JobView), (status = 202, body = JobView), (status = "default", response = Problem)),
)]
pub(super) async fn cancel(
    Operator(caller): Operator,
    PathParam(id): PathParam<JobId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    change(&app, &caller, &request, &submitted, id, Wanted::Cancel).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Requeue,
    Cancel,
}

struct JobChange {
    id: JobId,
    tenant: Option<Tenant>,
    wanted: Wanted,
}

async fn change(
    app: &AppState,
    caller: &Caller,
    request: &RequestInfo,
    submitted: &ValidatedJson<EmptyBody>,
    id: JobId,
    wanted: Wanted,
) -> Result<ApiResponse, ApiError> {
    let tenant = match app.jobs.find(id).await? {
        None => return Err(ProblemCode::NotFound.into()),
        Some(job) => tenant_of(app, &job).await?,
    };
    let recorder = CommandRunner::new(app, caller, request, submitted.key.as_ref());
    let change = JobChange { id, tenant, wanted };
    let outcome = match &change.tenant {
        Some(tenant) => {
            let in_turn = recorder.serialized_on(&tenant.slug, Some(tenant)).await?;
            in_turn.record(&change).await?
        }
        None => recorder.record(&change).await?,
    };
    Ok(outcome.answer)
}

impl Command for JobChange {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let (job, is_change) = match self.wanted {
                Wanted::Cancel => {
                    let outcome = app.jobs.cancel(session, self.id, now).await;
                    let cancelled = cancelled(outcome)?;
                    (cancelled.job, cancelled.is_new)
                }
                Wanted::Requeue => {
                    let by = recorder.actor_id();
                    let outcome = app.jobs.requeue(session, self.id, &by, now).await;
                    (requeued(outcome)?, true)
                }
            };
            let (action, status) = match self.wanted {
                Wanted::Requeue => (Action::JobRequeue, StatusCode::ACCEPTED),
                Wanted::Cancel if job.state.is_final() => (Action::JobCancel, StatusCode::OK),
                Wanted::Cancel => (Action::JobCancel, StatusCode::ACCEPTED),
            };
            let target = Target {
                kind: "job".to_owned(),
                id: self.id.to_string(),
                name: job.kind.clone(),
            };
            let mut event = recorder.event(now, action, target, self.tenant.as_ref());
            event.job_id = Some(job.id);

            let slug = self.tenant.as_ref().map(|tenant| tenant.slug.clone());
            let view = JobView::new(job.clone(), slug, recorder.caller);
            let answer = ApiResponse::new(status, ETag::from(&job), &view)
                .map_err(reject)?
                .at(view::href(job.id));
            if !is_change {
                return Ok(CommandOutput {
                    answer,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            }
            let changed = self
                .tenant
                .iter()
                .map(|tenant| DocumentChange::Tenant(tenant.id));
            Ok(CommandOutput {
                answer,
                changed: changed.collect(),
                jobs: vec![job],
                events: vec![event],
            })
        }
        .boxed()
    }
}

fn cancelled(
    outcome: Result<Cancelled, TransactionError<CancelError>>,
) -> Result<Cancelled, TransactionError<CommandError>> {
    outcome.map_err(|abort| match abort {
        TransactionError::Store(error) => TransactionError::Store(error),
        TransactionError::Aborted(CancelError::NotFound) => reject(ProblemCode::NotFound),
        TransactionError::Aborted(CancelError::Final(_)) => reject(ProblemCode::JobFinal),
        TransactionError::Aborted(CancelError::Purge) => reject(ProblemCode::PurgeScheduled),
        TransactionError::Aborted(CancelError::Running) => reject(ProblemCode::JobRunning),
    })
}

fn requeued(
    outcome: Result<Requeued, TransactionError<RequeueError>>,
) -> Result<Job, TransactionError<CommandError>> {
    match outcome {
        Ok(requeued) => Ok(requeued.job),
        Err(TransactionError::Store(error)) => Err(TransactionError::Store(error)),
        Err(TransactionError::Aborted(error)) => Err(reject(match error {
            RequeueError::NotFound => ProblemCode::NotFound,
            RequeueError::Running => ProblemCode::JobRunning,
            RequeueError::SecretsGone => ProblemCode::SecretsGone,
            RequeueError::PurgeNotDue => ProblemCode::PurgeScheduled,
        })),
    }
}
