//! Explanation of a job's state.

mod reasons;
mod responsible;

use axum::Json;
use dezky_shared::{
    id::JobId,
    queue::job::{Job, JobState},
    upstream::Upstream,
};
use serde::Serialize;
use utoipa::ToSchema;

use self::{
    reasons::{ExplainInputs, Reason, ReasonCode, is_queued, reasons},
    responsible::{Responsible, advice, responsible},
};
use super::{view::FailureView, visible_job};
use crate::{
    error::ApiError,
    extract::{Caller, PathParam, SignedIn},
    read::Get,
    timestamp::Timestamp,
    views::JobLink,
};

/// Explanation of a job's state: the reasons why it is waiting, running or finished.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobExplanation)]
pub(super) struct Explanation {
    /// Job.
    job: JobLink,
    /// Time of the next attempt, for a waiting job. Missing while it queues for an upstream's rate limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run_at: Option<Timestamp>,
    /// All reasons that apply, at least one. The first to resolve is on top.
    reasons: Vec<ReasonView>,
}

/// A reason.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobReason)]
struct ReasonView {
    /// Stable code.
    code: ReasonCode,
    /// Human-readable message.
    message: String,
    /// Start time.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Time at which it ends or is checked again.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Upstream.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<Upstream>,
    /// Last error of a job that waits because of it or failed. Its class says who has to act.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureView>,
    /// Party that has to act on the error.
    #[serde(skip_serializing_if = "Option::is_none")]
    responsible: Option<Responsible>,
    /// Operation that the upstream denies. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// Id of the blocking job, if the caller may read it.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// Number of due jobs that are served before it, at most 1,000. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs_ahead: Option<u64>,
    /// Steps that have not finished.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    /// Worker that runs the job. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Id of the user who paused it. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

/// Explains why a job is waiting, running or finished
#[utoipa::path(get, path = "/jobs/{id}/explain", operation_id = "explainJob", tag = "jobs", responses((status = 200, body = Explanation)))]
pub(super) async fn explain(
    get: Get<SignedIn, PathParam<JobId>>,
) -> Result<Json<Explanation>, ApiError> {
    let (job, _) = visible_job(&get.app, &get.access, get.params.0).await?;
    let now = get.app.store.now();
    let (holder, queue, upstreams, workers, jobs_ahead) = futures::try_join!(
        get.app.db.jobs.find_holder(&job.lock_key),
        get.app.db.queues.find(job.queue),
        get.app.db.upstreams.list(),
        get.app.db.workers.list(),
        get.app.db.jobs.count_ahead(&job, now),
    )?;
    let inputs = ExplainInputs {
        job: &job,
        now,
        jobs_ahead,
        holder: holder.as_ref().filter(|holder| holder.id != job.id),
        queue_paused: queue.paused.as_ref(),
        upstreams: &upstreams,
        workers: &workers,
    };
    let reasons = reasons(&inputs);
    let is_scheduled = job.state == JobState::Available && !is_queued(&job);
    Ok(Json(Explanation {
        job: JobLink::from(&job),
        next_run_at: is_scheduled.then(|| job.run_at.into()),
        reasons: reasons
            .into_iter()
            .map(|reason| view(reason, &job, &get.access))
            .collect(),
    }))
}

/// The reason, with the fields that `caller` may read.
fn view(reason: Reason<'_>, job: &Job, caller: &Caller) -> ReasonView {
    let is_operator = caller.reads_platform();
    let mut view = ReasonView {
        code: reason.code(),
        message: reason.message(),
        ..ReasonView::default()
    };
    match reason {
        Reason::Final { at, .. } => {
            view.since = at.map(Timestamp::from);
            view.upstream = failed_upstream(job);
            view.add_error(job, is_operator);
        }
        Reason::Running { lease, steps, .. } => {
            view.since = lease
                .and_then(|lease| lease.started_at)
                .map(Timestamp::from);
            view.steps = steps.into_iter().map(str::to_owned).collect();
            if let Some(lease) = lease.filter(|_| is_operator) {
                view.until = Some(lease.until.into());
                view.worker = Some(lease.worker.clone());
            }
        }
        Reason::Scheduled { until } | Reason::Rescued { until } => view.until = Some(until.into()),
        Reason::Retry { until } | Reason::Snoozed { until } => {
            view.until = Some(until.into());
            view.add_error(job, is_operator);
        }
        Reason::RateQueued { upstream } => view.upstream = Some(upstream),
        Reason::RateReserved { upstream, until } => {
            view.upstream = Some(upstream);
            view.until = Some(until.into());
        }
        Reason::UpstreamPaused { upstream, pause } => {
            view.upstream = Some(upstream);
            view.since = Some(pause.at.into());
            view.by = is_operator.then(|| pause.by.clone());
        }
        Reason::CredentialsRefused {
            upstream,
            since,
            probe_at,
        }
        | Reason::CircuitOpen {
            upstream,
            since,
            probe_at,
        } => {
            view.upstream = Some(upstream);
            view.since = Some(since.into());
            view.until = probe_at.map(Timestamp::from);
        }
        Reason::PermissionMissing { upstream, step } => {
            view.upstream = Some(upstream);
            view.since = step.finished_at.map(Timestamp::from);
            view.until = step.next_at.map(Timestamp::from);
            let operation = step
                .error
                .as_ref()
                .and_then(|error| error.operation.clone());
            view.operation = operation.filter(|_| is_operator);
        }
        Reason::LockHeld { holder } => {
            // Access to one job of a tenant implies access to all of them.
            let visible = is_operator || holder.tenant_id == job.tenant_id;
            view.job_id = visible.then(|| holder.id.to_string());
        }
        Reason::QueuePaused { pause } => {
            view.since = Some(pause.at.into());
            view.by = is_operator.then(|| pause.by.clone());
        }
        Reason::Backlog { jobs_ahead } => view.jobs_ahead = is_operator.then_some(jobs_ahead),
        Reason::NoWorker | Reason::KindUnknown | Reason::Next => {}
    }
    view
}

/// Upstream of the step whose error ended the job.
fn failed_upstream(job: &Job) -> Option<Upstream> {
    let error = job.error.as_ref()?;
    let mut steps = job.steps.iter();
    let failed = steps.find(|step| step.error.as_ref() == Some(error))?;
    Upstream::of_step(&failed.name)
}

impl ReasonView {
    /// Adds the job's error, with the advice for it.
    fn add_error(&mut self, job: &Job, is_operator: bool) {
        if let Some(error) = &job.error {
            self.message = format!("{} {}", self.message, advice(job, error));
            self.responsible = Some(responsible(job, error));
            self.error = Some(FailureView::new(error.clone(), is_operator));
        }
    }
}
