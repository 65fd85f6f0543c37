//! A job, as callers see it. Its arguments are nobody's business; details and upstream ids are the operators'.

use std::collections::BTreeMap;

use dezky_shared::{
    id::JobId,
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{Attempt, Job, JobFailure, JobState, Step, StepState},
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{extract::Caller, timestamp::Timestamp};

/// Where a job can be looked at.
pub(in crate::routes) fn href(id: JobId) -> String {
    format!("/jobs/{id}")
}

/// The job that carries out a change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobLink {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: JobId,
    /// Where it stands.
    #[schema(value_type = String, example = "available")]
    pub state: JobState,
    /// Where it can be looked at.
    pub href: String,
}

impl From<&Job> for JobLink {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            state: job.state,
            href: href(job.id),
        }
    }
}

/// A job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobView {
    /// Its id.
    id: String,
    /// What kind of work it is.
    #[schema(example = "provision_tenant")]
    kind: String,
    /// Where it stands: `available`, `running`, `completed`, `discarded` or `cancelled`.
    #[schema(value_type = String)]
    state: JobState,
    /// The tenant it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// That tenant's slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_slug: Option<String>,
    /// Where it waits.
    queue: &'static str,
    /// 0 to 2, lower first.
    priority: i32,
    /// When it may next run.
    run_at: Timestamp,
    /// Tries that counted, the present one included.
    attempt: i32,
    /// How many it has; missing is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_attempts: Option<i32>,
    /// Times it was put off at no cost.
    snoozes: i32,
    /// Workers that died running it.
    crashes: i32,
    /// Its parts.
    steps: Vec<StepView>,
    /// Its last tries, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<Vec<AttemptView>>,
    /// Why it failed last.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureView>,
    /// Whether somebody wants it to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_requested: Option<bool>,
    /// How far it has come.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<ProgressView>,
    /// The job that made it, as one of many.
    #[serde(skip_serializing_if = "Option::is_none")]
    parent: Option<String>,
    /// How many jobs it made are in each state; see `GET /jobs?parent=<id>`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<BTreeMap<String, u64>>, example = json!({ "available": 3, "completed": 17 }))]
    children: Option<BTreeMap<JobState, u64>>,
    /// The job that does its work instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    superseded_by: Option<String>,
    /// The job it repeats.
    #[serde(skip_serializing_if = "Option::is_none")]
    requeued_from: Option<String>,
    /// The trace it belongs to (W3C Trace Context), for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// When it was enqueued.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// When it is given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    give_up_at: Option<Timestamp>,
    /// + 1 with every change.
    revision: i64,
}

/// One part of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StepView {
    /// Its name: an upstream's.
    #[schema(example = "authentik")]
    name: String,
    /// Where it stands: `pending`, `ok`, `skipped`, `error` or `unknown`.
    #[schema(value_type = String)]
    state: StepState,
    /// Its failures in a row.
    attempts: i32,
    /// When it last began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When it last ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
    /// When it may be tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// What it changed, or would change in a dry run.
    changes: Vec<String>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<FailureView>,
}

/// Why something failed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct FailureView {
    /// A stable name for what went wrong.
    #[schema(value_type = String, example = "upstream_unreachable")]
    code: ErrorCode,
    /// Who has to act: `user_action`, `upstream`, `rate_limited`, `credentials`, `conflict` or `bug`.
    #[schema(value_type = String)]
    class: ErrorClass,
    /// The same, for a person.
    message: String,
    /// Whether it is tried again.
    retryable: bool,
    /// More about it, for operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// One try of a job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AttemptView {
    /// Which try it was, counting all.
    n: i32,
    /// Which worker ran it.
    worker: String,
    /// When it began.
    started_at: Timestamp,
    /// When it ended.
    finished_at: Timestamp,
    /// How it was settled.
    outcome: String,
    /// What failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    /// The requests it made, as the upstreams know them.
    upstream_request_ids: Vec<String>,
}

/// How far a job has come.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressView {
    /// How many are done.
    done: i64,
    /// Of how many.
    total: i64,
    /// What it is doing.
    note: String,
}

impl JobView {
    /// The job, as `caller` may see it.
    pub fn new(job: Job, tenant_slug: Option<String>, caller: &Caller) -> Self {
        let for_operator = caller.is_operator();
        let failure = |failure| FailureView::new(failure, for_operator);
        let step = |step: Step| StepView {
            name: step.name,
            state: step.state,
            attempts: step.attempts,
            started_at: step.started_at.map(Timestamp::from),
            finished_at: step.finished_at.map(Timestamp::from),
            next_attempt_at: step.next_at.map(Timestamp::from),
            changes: step.changes,
            error: step.error.map(failure),
        };
        Self {
            id: job.id.to_string(),
            kind: job.kind,
            state: job.state,
            tenant_id: job.tenant_id.map(|id| id.to_string()),
            tenant_slug,
            queue: job.queue.name(),
            priority: job.priority,
            run_at: job.run_at.into(),
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            snoozes: job.snoozes,
            crashes: job.crashes,
            steps: job.steps.into_iter().map(step).collect(),
            attempts: for_operator
                .then(|| job.attempts.into_iter().map(AttemptView::from).collect()),
            error: job.error.map(failure),
            cancel_requested: job.cancel_requested,
            progress: job.progress.map(|progress| ProgressView {
                done: progress.done,
                total: progress.total,
                note: progress.note,
            }),
            parent: job.parent.map(|id| id.to_string()),
            children: None,
            superseded_by: job.superseded_by.map(|id| id.to_string()),
            requeued_from: job.requeued_from.map(|id| id.to_string()),
            traceparent: job.traceparent.filter(|_| for_operator),
            created_at: job.created_at.into(),
            updated_at: job.updated_at.into(),
            finished_at: job.finished_at.map(Timestamp::from),
            give_up_at: job.give_up_at.map(Timestamp::from),
            revision: job.revision,
        }
    }
}

impl JobView {
    /// The same, with how many of the jobs that it made are in each state.
    #[must_use]
    pub fn with_children(mut self, children: BTreeMap<JobState, u64>) -> Self {
        self.children = Some(children);
        self
    }
}

impl FailureView {
    fn new(failure: JobFailure, for_operator: bool) -> Self {
        Self {
            code: failure.code,
            class: failure.class,
            message: failure.message,
            retryable: failure.retryable,
            detail: for_operator.then_some(failure.detail),
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
