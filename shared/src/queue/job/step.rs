//! Steps of a job, and the records of its attempts: failures, progress and history.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::queue::error_code::{ErrorClass, ErrorCode};

/// State of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobStepState)]
pub enum StepState {
    /// Not yet attempted for the current generation.
    Pending,
    /// Succeeded.
    Ok,
    /// Nothing to do.
    Skipped,
    /// The last attempt failed.
    Error,
    /// A write was sent and its outcome is unknown.
    Unknown,
}

impl StepState {
    /// Whether the step is complete.
    pub const fn is_done(self) -> bool {
        matches!(self, Self::Ok | Self::Skipped)
    }
}

/// Step: a named part of a job with its own state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Name, such as `authentik`.
    pub name: String,
    /// Current state.
    pub state: StepState,
    /// Consecutive failures.
    #[serde(default)]
    pub attempts: i32,
    /// Start of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
    /// End of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// Time of the next attempt; missing if never retried or not yet attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_at: Option<DateTime>,
    /// Reserved slot in the upstream's rate budget, while the step waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[serde(rename = "turnAt")]
    pub reserved_at: Option<DateTime>,
    /// Whether the rate budget was saturated: nothing is reserved, and the step asks again at `reserved_at`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[serde(rename = "asksAgain")]
    pub queue_full: bool,
    /// Progress of a step that continues in another attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// Changes made upstream, or planned in a dry run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub changes: Vec<String>,
    /// Failure of the last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobFailure>,
}

impl Step {
    /// A step that has not been attempted.
    pub fn pending(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: StepState::Pending,
            attempts: 0,
            started_at: None,
            finished_at: None,
            next_at: None,
            reserved_at: None,
            queue_full: false,
            progress: None,
            changes: Vec::new(),
            error: None,
        }
    }

    /// Whether the step has failed and is never retried.
    pub fn is_permanently_failed(&self) -> bool {
        matches!(self.state, StepState::Error | StepState::Unknown) && self.next_at.is_none()
    }
}

/// Failure of a job or a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobFailure {
    /// Stable code.
    pub code: ErrorCode,
    /// Party that has to act.
    pub class: ErrorClass,
    /// Customer-facing message.
    pub message: String,
    /// Detail for operators.
    pub detail: String,
    /// Operation of the upstream that failed, such as `create_group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Whether it is retried automatically.
    pub retryable: bool,
    /// Failure that this one follows from: the last one of a call, before the calls to its upstream were stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<FailureCause>,
}

/// Failure that another one follows from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FailureCause {
    /// Stable code.
    pub code: ErrorCode,
    /// Detail for operators.
    pub detail: String,
    /// Operation of the upstream that failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
}

impl JobFailure {
    /// A failure that is never retried.
    pub fn permanent(code: ErrorCode, detail: &str) -> Self {
        Self {
            code,
            class: code.class(),
            message: code.customer_text(None),
            detail: detail.to_owned(),
            operation: None,
            retryable: false,
            cause: None,
        }
    }
}

/// Attempt of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// Attempt number, counting all attempts.
    pub n: i32,
    /// Worker that ran it.
    pub worker: String,
    /// Start time.
    pub started_at: DateTime,
    /// End time.
    pub finished_at: DateTime,
    /// Outcome: `complete`, `retry`, `snooze` (only the last of several in a row is listed), `discard`, `cancel`,
    /// `release` or `rescue`; `timeout` if it exceeded its time
    /// limit, regardless of its settlement.
    pub outcome: String,
    /// Error text, at most 2 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Ids of the most recent upstream requests, as assigned by the upstreams; at most 8.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub upstream_request_ids: Vec<String>,
}

impl Attempt {
    /// Outcome of an attempt after which the job runs again later, uncharged: all its steps recorded how they ended.
    pub const SNOOZE: &'static str = "snooze";
}

/// Progress of a long job, or of one of its steps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Items done.
    pub done: i64,
    /// Total number of items.
    pub total: i64,
    /// Current activity.
    pub note: String,
    /// Resume position of the next attempt, opaque to all other code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}
