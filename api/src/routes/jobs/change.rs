//! Running a job again, and stopping one.

use axum::extract::State;
use dezky_shared::{
    audit::{Action, Target},
    changes::Change,
    id::JobId,
    job::Job,
    store::{
        Abort,
        jobs::{CancelError, Cancelled, RequeueError, Requeued},
    },
    tenant::Tenant,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;

use super::{JobView, tenant_of, view};
use crate::{
    error::{ApiError, Code, Problem},
    extract::{Caller, ETag, NoBody, Operator, PathParam, QueryParams, RequestInfo, Submitted},
    intent::{Answer, Intent, Recorded, Recorder, Stop, refuse},
    state::{App, AppState},
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
    State(app): State<App>,
    request: RequestInfo,
    submitted: Submitted<NoBody>,
) -> Result<Answer, ApiError> {
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
    State(app): State<App>,
    request: RequestInfo,
    submitted: Submitted<NoBody>,
) -> Result<Answer, ApiError> {
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
    submitted: &Submitted<NoBody>,
    id: JobId,
    wanted: Wanted,
) -> Result<Answer, ApiError> {
    let tenant = match app.jobs.find(id).await? {
        None => return Err(Code::NotFound.into()),
        Some(job) => tenant_of(app, &job).await?,
    };
    let recorder = Recorder::new(app, caller, request, submitted.key.as_ref());
    let change = JobChange { id, tenant, wanted };
    let outcome = match &change.tenant {
        Some(tenant) => {
            let in_turn = recorder.in_turn(&tenant.slug, Some(tenant)).await?;
            in_turn.record(&change).await?
        }
        None => recorder.record(&change).await?,
    };
    Ok(outcome.answer)
}

impl Intent for JobChange {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s Recorder<'_>,
    ) -> BoxFuture<'s, Result<Recorded, Abort<Stop>>> {
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
                    let by = recorder.by();
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
            let answer = Answer::new(status, ETag::from(&job), &view)
                .map_err(refuse)?
                .at(view::href(job.id));
            if !is_change {
                return Ok(Recorded {
                    answer,
                    jobs: Vec::new(),
                    changed: Vec::new(),
                    events: Vec::new(),
                });
            }
            let changed = self.tenant.iter().map(|tenant| Change::Tenant(tenant.id));
            Ok(Recorded {
                answer,
                changed: changed.collect(),
                jobs: vec![job],
                events: vec![event],
            })
        }
        .boxed()
    }
}

fn cancelled(outcome: Result<Cancelled, Abort<CancelError>>) -> Result<Cancelled, Abort<Stop>> {
    outcome.map_err(|abort| match abort {
        Abort::Store(error) => Abort::Store(error),
        Abort::Because(CancelError::NotFound) => refuse(Code::NotFound),
        Abort::Because(CancelError::Final(_)) => refuse(Code::JobFinal),
        Abort::Because(CancelError::Purge) => refuse(Code::PurgeScheduled),
        Abort::Because(CancelError::Running) => refuse(Code::JobRunning),
    })
}

fn requeued(outcome: Result<Requeued, Abort<RequeueError>>) -> Result<Job, Abort<Stop>> {
    match outcome {
        Ok(requeued) => Ok(requeued.job),
        Err(Abort::Store(error)) => Err(Abort::Store(error)),
        Err(Abort::Because(error)) => Err(refuse(match error {
            RequeueError::NotFound => Code::NotFound,
            RequeueError::Running => Code::JobRunning,
            RequeueError::SecretsGone => Code::SecretsGone,
            RequeueError::PurgeNotDue => Code::PurgeScheduled,
        })),
    }
}
