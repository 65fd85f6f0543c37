//! What a job waits for, or who runs it.

mod reasons;

use axum::{Json, extract::State};
use dezky_shared::{
    id::JobId,
    queue::job::{Job, JobState},
};
use serde::Serialize;
use utoipa::ToSchema;

use self::reasons::{ExplainInputs, Reason, reasons};
use super::{JobLink, visible_job};
use crate::{
    error::{ApiError, Problem},
    extract::{Caller, PathParam, QueryParams, SignedIn},
    state::SharedState,
    timestamp::Timestamp,
};

/// Why a job stands where it does.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Explanation {
    /// The job.
    job: JobLink,
    /// When it may next run, while it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_run_at: Option<Timestamp>,
    /// All that applies, what has to happen first at the top. There is always one.
    reasons: Vec<ReasonView>,
}

/// One thing that a job waits for, or that is so.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ReasonView {
    /// A stable name: `final`, `running`, `scheduled`, `retry`, `snoozed`, `rescued`, `upstream_paused`,
    /// `credentials_refused`, `circuit_open`, `turn`, `lock_held`, `queue_paused`, `no_worker`, `kind_unknown` or `next`.
    code: &'static str,
    /// The same, for a person.
    message: String,
    /// Since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// When it ends, or is looked at again.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// The upstream it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<&'static str>,
    /// The job that is in the way, for whoever may see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    job_id: Option<String>,
    /// The steps that are still to end.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    steps: Vec<String>,
    /// Which worker runs it, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    worker: Option<String>,
    /// Which user paused it, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<String>,
}

/// What a job waits for, or who runs it
#[utoipa::path(
    get, path = "/jobs/{id}/explain", operation_id = "explainJob", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = Explanation), (status = "default", response = Problem)),
)]
pub(super) async fn explain(
    SignedIn(caller): SignedIn,
    PathParam(id): PathParam<JobId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<Explanation>, ApiError> {
    let (job, _) = visible_job(&app, &caller, id).await?;
    let (holder, queue, upstreams, workers) = futures::try_join!(
        app.jobs.find_holder(&job.lock_key),
        app.queues.find(job.queue),
        app.upstreams.list(),
        app.workers.list(),
    )?;
    let facts = ExplainInputs {
        job: &job,
        now: app.store.now(),
        holder: holder.as_ref().filter(|holder| holder.id != job.id),
        queue_paused: queue.paused.as_ref(),
        upstreams: &upstreams,
        workers: &workers,
    };
    let reasons = reasons(&facts);
    Ok(Json(Explanation {
        job: JobLink::from(&job),
        next_run_at: (job.state == JobState::Available).then(|| job.run_at.into()),
        reasons: reasons
            .into_iter()
            .map(|reason| view(reason, &job, &caller))
            .collect(),
    }))
}

/// The reason, as `caller` may see it.
fn view(reason: Reason<'_>, job: &Job, caller: &Caller) -> ReasonView {
    let operator = caller.is_operator();
    let mut view = ReasonView {
        code: reason.code(),
        message: reason.message(),
        ..ReasonView::default()
    };
    match reason {
        Reason::Final { at, .. } => view.since = at.map(Timestamp::from),
        Reason::Running { lease, steps, .. } => {
            view.since = lease
                .and_then(|lease| lease.started_at)
                .map(Timestamp::from);
            view.steps = steps.into_iter().map(str::to_owned).collect();
            if let Some(lease) = lease.filter(|_| operator) {
                view.until = Some(lease.until.into());
                view.worker = Some(lease.worker.clone());
            }
        }
        Reason::Scheduled { until }
        | Reason::Retry { until }
        | Reason::Snoozed { until }
        | Reason::Rescued { until } => view.until = Some(until.into()),
        Reason::Turn { upstream, until } => {
            view.upstream = Some(upstream.name());
            view.until = Some(until.into());
        }
        Reason::UpstreamPaused { upstream, pause } => {
            view.upstream = Some(upstream.name());
            view.since = Some(pause.at.into());
            view.by = operator.then(|| pause.by.clone());
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
            view.upstream = Some(upstream.name());
            view.since = Some(since.into());
            view.until = probe_at.map(Timestamp::from);
        }
        Reason::LockHeld { holder } => {
            // Whoever may see a tenant's job may see all of its jobs.
            let visible = operator || holder.tenant_id == job.tenant_id;
            view.job_id = visible.then(|| holder.id.to_string());
        }
        Reason::QueuePaused { pause } => {
            view.since = Some(pause.at.into());
            view.by = operator.then(|| pause.by.clone());
        }
        Reason::NoWorker | Reason::KindUnknown | Reason::Next => {}
    }
    view
}
