//! An operation on many jobs, as operators see it.

use dezky_shared::queue::{
    error_code::{ErrorClass, ErrorCode},
    job::{Job, JobState},
    job_operation::{
        ItemOutcome, ItemReason, JobAction, JobOperation, JobOperationItem, JobSelection,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    routes::jobs::{JobLink, JobView},
    timestamp::Timestamp,
};

/// Something to be done to many jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobOperationView {
    /// Its id.
    id: String,
    /// What is done to each job: `requeue`, `cancel` or `discard`.
    #[schema(value_type = String)]
    action: JobAction,
    /// Which jobs were meant.
    filter: SelectionView,
    /// At most so many jobs in a second; missing is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    /// How many jobs there are.
    total: i64,
    /// How many of them have not had their turn.
    pending: i64,
    /// How many were changed.
    done: i64,
    /// How many needed no change any more.
    skipped: i64,
    /// How many could not be changed.
    refused: i64,
    /// The job that goes through them.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
    /// Who wants it.
    requested_by: String,
    /// When it was accepted.
    created_at: Timestamp,
    /// When the last job had its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

/// Which jobs were meant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SelectionView {
    /// In this state.
    #[schema(value_type = String)]
    state: JobState,
    /// Of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// In this queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<&'static str>,
    /// About this tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// Last failed with this code.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    error_code: Option<ErrorCode>,
    /// Last failed with a code of this class.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    error_class: Option<ErrorClass>,
    /// Made at this time or later.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_after: Option<Timestamp>,
    /// Made before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_before: Option<Timestamp>,
}

impl JobOperationView {
    /// The operation, and its job while that is kept.
    pub(super) fn new(operation: JobOperation, job: Option<&Job>) -> Self {
        let settled = operation.done + operation.skipped + operation.refused;
        Self {
            id: operation.id.to_string(),
            action: operation.action,
            filter: operation.filter.into(),
            rate: operation.rate,
            total: operation.total,
            pending: operation.total - settled,
            done: operation.done,
            skipped: operation.skipped,
            refused: operation.refused,
            job: job.map(JobLink::from),
            requested_by: operation.actor.id,
            created_at: operation.created_at.into(),
            finished_at: operation.finished_at.map(Timestamp::from),
        }
    }
}

impl From<JobSelection> for SelectionView {
    fn from(selection: JobSelection) -> Self {
        Self {
            state: selection.state,
            kind: selection.kind,
            queue: selection.queue.map(dezky_shared::queue::job::Queue::name),
            tenant_id: selection.tenant_id.map(|id| id.to_string()),
            error_code: selection.error_code,
            error_class: selection.error_class,
            created_after: selection.created_after.map(Timestamp::from),
            created_before: selection.created_before.map(Timestamp::from),
        }
    }
}

/// What an operation would do, were it not a dry run.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PreviewView<'a> {
    /// How many jobs match.
    pub(super) total: u64,
    /// Some of them.
    pub(super) sample: &'a [JobView],
}

/// What became of one job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ItemView {
    /// Its place in the operation, from 1.
    n: i64,
    /// The job.
    job_id: String,
    /// `pending`, `done`, `skipped` (no change was needed any more) or `refused`.
    #[schema(value_type = String)]
    outcome: ItemOutcome,
    /// Why it was skipped (`job_gone`, `state_changed`, `cancel_requested`) or refused (`secrets_gone`,
    /// `purge_scheduled`).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    code: Option<ItemReason>,
    /// The job that runs instead: a new one, or one that waited already.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_job_id: Option<String>,
    /// When it had its turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

impl From<JobOperationItem> for ItemView {
    fn from(item: JobOperationItem) -> Self {
        Self {
            n: item.n,
            job_id: item.job_id.to_string(),
            outcome: item.outcome,
            code: item.reason,
            new_job_id: item.new_job_id.map(|id| id.to_string()),
            at: item.at.map(Timestamp::from),
        }
    }
}
