//! Representations of a job. Arguments are never shown; error details and attempts only to operators.

use std::collections::BTreeMap;

use dezky_shared::queue::{
    error_code::{ErrorClass, ErrorCode},
    job::{Attempt, Job, JobFailure, JobState, Progress, Queue, Step, StepState},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{extract::Caller, timestamp::Timestamp};

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Job)]
pub struct JobView {
    /// Id.
    id: String,
    /// Kind.
    #[schema(example = "provision_tenant")]
    kind: String,
    /// State: `available`, `running`, `completed`, `discarded` or `cancelled`.
    state: JobState,
    /// Tenant id.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// Tenant slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_slug: Option<String>,
    /// Queue.
    queue: Queue,
    /// Priority, 0–2; lower runs first.
    priority: i32,
    /// Time from which it may run.
    run_at: Timestamp,
    /// Counted attempts, including the current one.
    attempt: i32,
    /// Maximum number of attempts; missing if unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i32>,
    /// Number of snoozes: delays that do not count as attempts.
    snoozes: i32,
    /// Number of workers lost while they ran it.
    crashes: i32,
    /// Steps.
    steps: Vec<StepView>,
    /// Recent attempts. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptView>>,
    /// Last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureView>,
    /// Whether cancellation was requested.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested: Option<bool>,
    /// Progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
    /// Id of the job that created it.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// Number of jobs that it created, by state, at most 10,000 of each; list them with `GET /jobs?parent=<id>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u64>>, example = json!({ "available": 3, "completed": 17 }))]
    children: Option<BTreeMap<JobState, u64>>,
    /// Id of the job that supersedes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<String>,
    /// Id of the finished job that it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    requeued_from: Option<String>,
    /// Id of the job that repeats it.
    #[serde(skip_serializing_if = "Option::is_none")]
    requeued_to: Option<String>,
    /// Time at which an operator dismissed it. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    dismissed_at: Option<Timestamp>,
    /// Id of that operator. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    dismissed_by: Option<String>,
    /// Trace context (W3C). For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// Time at which it finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// Time after which it is discarded instead of retried.
    #[serde(skip_serializing_if = "Option::is_none")]
    give_up_at: Option<Timestamp>,
    /// Incremented by every change.
    revision: i64,
}

/// A step of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobStep)]
struct StepView {
    /// Name, usually that of an upstream.
    #[schema(example = "authentik")]
    name: String,
    /// State: `pending`, `ok`, `skipped`, `error` or `unknown`.
    state: StepState,
    /// Consecutive failures.
    attempts: i32,
    /// Start of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// End of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// Time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// Progress of a step that continues in another attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
    /// Changes made, or to be made in a dry run.
    changes: Vec<String>,
    /// Error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureView>,
}

/// An error of a job or a step.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobFailure)]
pub(super) struct FailureView {
    /// Stable error code.
    code: ErrorCode,
    /// Class, which determines who must act: `user_action`, `upstream`, `rate_limited`, `credentials`, `conflict` or `bug`.
    class: ErrorClass,
    /// Human-readable message.
    message: String,
    /// Whether it is retried.
    retryable: bool,
    /// Operation of the upstream that failed. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "create_group")]
    operation: Option<String>,
    /// Details. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// Failure that this one follows from, such as the last one before the calls to an upstream were stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<CauseView>,
}

/// The failure that another one follows from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobFailureCause)]
struct CauseView {
    /// Stable error code.
    code: ErrorCode,
    /// Operation of the upstream that failed. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
    /// Details. For operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// An attempt of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobAttempt)]
struct AttemptView {
    /// Number of the attempt, counting all.
    n: i32,
    /// Worker that ran it.
    worker: String,
    /// Start time.
    started_at: Timestamp,
    /// End time.
    finished_at: Timestamp,
    /// Outcome: `complete`, `retry`, `snooze` (delayed without counting an attempt; only the last of several in a row is
    /// listed), `discard`, `cancel`, `release`, `rescue` or `timeout`.
    outcome: String,
    /// Reason of a failure or a delay.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// Request ids returned by the upstreams.
    upstream_request_ids: Vec<String>,
}

/// Progress of a job or of one of its steps.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobProgress)]
struct ProgressView {
    /// Number of processed items.
    done: i64,
    /// Total number of items.
    total: i64,
    /// Current activity.
    note: String,
}

impl JobView {
    /// The job, with the fields that `caller` may read.
    pub fn new(job: Job, tenant_slug: Option<String>, caller: &Caller) -> Self {
        let is_operator = caller.reads_platform();
        let failure = |failure| FailureView::new(failure, is_operator);
        let dismissed = job.dismissed.filter(|_| is_operator);
        let step = |step: Step| StepView {
            name: step.name,
            state: step.state,
            attempts: step.attempts,
            started_at: step.started_at.map(Timestamp::from),
            finished_at: step.finished_at.map(Timestamp::from),
            next_attempt_at: step.next_at.map(Timestamp::from),
            progress: step.progress.map(ProgressView::from),
            changes: step.changes,
            error: step.error.map(failure),
        };
        Self {
            id: job.id.to_string(),
            kind: job.kind,
            state: job.state,
            tenant_id: job.tenant_id.map(|id| id.to_string()),
            tenant_slug,
            queue: job.queue,
            priority: job.priority.number(),
            run_at: job.run_at.into(),
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            snoozes: job.snoozes,
            crashes: job.crashes,
            steps: job.steps.into_iter().map(step).collect(),
            attempts: is_operator
                .then(|| job.attempts.into_iter().map(AttemptView::from).collect()),
            error: job.error.map(failure),
            cancel_requested: job.cancel_requested,
            progress: job.progress.map(ProgressView::from),
            parent: job.parent.map(|id| id.to_string()),
            children: None,
            superseded_by: job.superseded_by.map(|id| id.to_string()),
            requeued_from: job.requeued_from.map(|id| id.to_string()),
            requeued_to: job.requeued_to.map(|id| id.to_string()),
            dismissed_at: dismissed.as_ref().map(|dismissal| dismissal.at.into()),
            dismissed_by: dismissed.map(|dismissal| dismissal.by),
            traceparent: job.traceparent.filter(|_| is_operator),
            created_at: job.created_at.into(),
            updated_at: job.updated_at.into(),
            finished_at: job.finished_at.map(Timestamp::from),
            give_up_at: job.give_up_at.map(Timestamp::from),
            revision: job.revision,
        }
    }

    /// Adds the number of child jobs by state.
    #[must_use]
    pub fn with_children(mut self, children: BTreeMap<JobState, u64>) -> Self {
        self.children = Some(children);
        self
    }
}

impl FailureView {
    pub(super) fn new(failure: JobFailure, is_operator: bool) -> Self {
        Self {
            code: failure.code,
            class: failure.class,
            message: failure.message,
            retryable: failure.retryable,
            operation: failure.operation.filter(|_| is_operator),
            detail: is_operator.then_some(failure.detail),
            cause: failure.cause.map(|cause| CauseView {
                code: cause.code,
                operation: cause.operation.filter(|_| is_operator),
                detail: is_operator.then_some(cause.detail),
            }),
        }
    }
}

impl From<Progress> for ProgressView {
    fn from(progress: Progress) -> Self {
        Self {
            done: progress.done,
            total: progress.total,
            note: progress.note,
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        Self {
            n: attempt.n,
            worker: attempt.worker,
            started_at: attempt.started_at.into(),
            finished_at: attempt.finished_at.into(),
            outcome: attempt.outcome,
            error: attempt.error,
            upstream_request_ids: attempt.upstream_request_ids,
        }
    }
}
