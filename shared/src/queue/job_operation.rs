//! Something that an operator wants done to many jobs at once.
//!
//! Which jobs is settled when the operation is accepted: each is an item, stored with it. A job of its own
//! ([`crate::queue::args::RunJobOperation`]) then goes through the items one by one.

use bson::{DateTime, oid::ObjectId};
use serde::{Deserialize, Serialize};

use crate::{
    audit::{Actor, Origin},
    id::{JobId, JobOperationId, TenantId},
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{JobState, Queue},
    },
};

/// What is done to each job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobAction {
    /// Run it again: now where it waits, as a new job where it is over.
    Requeue,
    /// Stop it: at once where it waits, after its present step where it runs.
    Cancel,
    /// End it as failed. Only for jobs that wait.
    Discard,
}

impl JobAction {
    /// Whether there is any use in this for a job that is in `state`.
    pub const fn applies_to(self, state: JobState) -> bool {
        match self {
            Self::Requeue => !matches!(state, JobState::Running),
            Self::Cancel => !state.is_final(),
            Self::Discard => matches!(state, JobState::Available),
        }
    }
}

/// Which jobs are meant: those that are all of this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobSelection {
    /// In this state.
    pub state: JobState,
    /// Of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// In this queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,
    /// About this tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<TenantId>,
    /// Last failed with this code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_code: Option<ErrorCode>,
    /// Last failed with a code of this class.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<ErrorClass>,
    /// Made at this time or later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_after: Option<DateTime>,
    /// Made before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_before: Option<DateTime>,
}

/// An operation, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOperation {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: JobOperationId,
    /// What is done to each job.
    pub action: JobAction,
    /// Which jobs were meant.
    pub filter: JobSelection,
    /// At most so many jobs in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// How many jobs there are.
    pub total: i64,
    /// How many were changed.
    pub done: i64,
    /// How many needed no change any more.
    pub skipped: i64,
    /// How many could not be changed.
    pub refused: i64,
    /// The job that goes through them.
    pub job_id: JobId,
    /// Who wants it.
    pub actor: Actor,
    /// From where they asked.
    pub origin: Origin,
    /// When it was accepted.
    pub created_at: DateTime,
    /// When the last item had its outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<DateTime>,
    /// When it is deleted.
    pub expire_at: DateTime,
}

/// What became of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemOutcome {
    /// Its turn has not come.
    Pending,
    /// It was changed.
    Done,
    /// It needed no change any more.
    Skipped,
    /// It could not be changed.
    Refused,
}

/// Why a job was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemReason {
    /// It was deleted, its time being over.
    JobGone,
    /// It is no longer in the state that was asked for.
    StateChanged,
    /// It was asked to stop before.
    CancelRequested,
    /// The secrets it needs were deleted when it became final.
    SecretsGone,
    /// It removes a tenant, which only restoring the tenant stops.
    PurgeScheduled,
}

impl ItemReason {
    /// Whether that leaves the job other than what was wanted.
    pub const fn outcome(self) -> ItemOutcome {
        match self {
            Self::JobGone | Self::StateChanged | Self::CancelRequested => ItemOutcome::Skipped,
            Self::SecretsGone | Self::PurgeScheduled => ItemOutcome::Refused,
        }
    }
}

/// One job of an operation, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobOperationItem {
    /// Its id, which nobody else uses.
    #[serde(rename = "_id")]
    pub id: ObjectId,
    /// The operation.
    pub operation_id: JobOperationId,
    /// Its place, from 1.
    pub n: i64,
    /// The job.
    pub job_id: JobId,
    /// What became of it.
    pub outcome: ItemOutcome,
    /// Why it was not changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<ItemReason>,
    /// The job that runs instead, where one was made or joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_job_id: Option<JobId>,
    /// When its turn came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<DateTime>,
    /// When it is deleted.
    pub expire_at: DateTime,
}
