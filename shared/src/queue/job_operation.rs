//! Bulk job operation: an operator's action on many jobs.
//!
//! The jobs are selected when the operation is accepted, and stored as items. A job of its own
//! ([`crate::queue::args::RunJobOperation`]) processes the items one by one.

use bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    audit::{Actor, Origin},
    id::{JobId, JobOperationId, TenantId},
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{JobState, Queue},
    },
};

// An action of a newer build has no value here: lists leave its operation out, and a worker that cannot read it tries again.
/// Action applied to each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobAction {
    /// Run again: now if available, as a new job if final.
    Requeue,
    /// Cancel: at once if available, after the current step if running.
    Cancel,
    /// Discard as failed. Only for available jobs.
    Discard,
    /// Dismiss: later operations no longer select it. Only for discarded jobs.
    Dismiss,
}

impl JobAction {
    /// Whether the action applies to a job in `state`.
    pub const fn applies_to(self, state: JobState) -> bool {
        match self {
            Self::Requeue => !matches!(state, JobState::Running),
            Self::Cancel => !state.is_final(),
            Self::Discard => matches!(state, JobState::Available),
            Self::Dismiss => matches!(state, JobState::Discarded),
        }
    }
}

/// Selection of jobs: all given criteria must match.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSelection {
    /// State.
    pub state: JobState,
    /// Kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// Tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Code of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// Class of the last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// Creation time, inclusive lower bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_after: Option<DateTime>,
    /// Creation time, exclusive upper bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime>,
}

/// Bulk job operation, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOperation {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: JobOperationId,
    /// Action applied to each job.
    pub action: JobAction,
    /// Selection criteria.
    pub filter: JobSelection,
    /// Rate limit, in jobs per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// Number of items.
    pub total: i64,
    /// Items changed.
    pub done: i64,
    /// Items that needed no change.
    pub skipped: i64,
    /// Items that could not be changed.
    pub refused: i64,
    /// Job that runs the operation.
    pub job_id: JobId,
    /// Requester.
    pub actor: Actor,
    /// Originating request.
    pub origin: Origin,
    /// Time of acceptance.
    pub created_at: DateTime,
    /// Time at which the last item was settled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}

/// Outcome of one item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = JobOperationItemOutcome)]
pub enum ItemOutcome {
    /// Not processed yet.
    Pending,
    /// Changed.
    Done,
    /// No change needed.
    Skipped,
    /// Could not be changed.
    Refused,
}

/// Reason why an item was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = JobOperationItemReason)]
pub enum ItemReason {
    /// The job was deleted by retention.
    JobGone,
    /// The job left the selected state.
    StateChanged,
    /// Cancellation was requested earlier.
    CancelRequested,
    /// Its secrets were deleted when it became final.
    SecretsGone,
    /// The job purges a tenant; only restoring the tenant stops it.
    PurgeScheduled,
}

impl ItemReason {
    /// Outcome that follows from the reason: skipped if the job is already as requested, else refused.
    pub const fn outcome(self) -> ItemOutcome {
        match self {
            Self::JobGone | Self::StateChanged | Self::CancelRequested => ItemOutcome::Skipped,
            Self::SecretsGone | Self::PurgeScheduled => ItemOutcome::Refused,
        }
    }
}

/// Item of a bulk job operation, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOperationItem {
    /// Unique id, not referenced elsewhere.
    #[serde(rename = "_id")]
    pub id: ObjectId,
    /// Operation id.
    pub operation_id: JobOperationId,
    /// Position, from 1.
    pub n: i64,
    /// Job id.
    pub job_id: JobId,
    /// Outcome.
    pub outcome: ItemOutcome,
    /// Reason why the job was not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ItemReason>,
    /// Job that was created or joined instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_job_id: Option<JobId>,
    /// Time of processing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime>,
    /// Expiry (TTL index).
    pub expire_at: DateTime,
}
