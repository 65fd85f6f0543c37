//! Representations of a job operation.

use dezky_shared::queue::{
    error_code::{ErrorClass, ErrorCode},
    job::{Job, JobState, Queue},
    job_operation::{
        ItemOutcome, ItemReason, JobAction, JobOperation, JobOperationItem, JobSelection,
    },
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{routes::jobs::JobView, timestamp::Timestamp, views::JobLink};

/// A bulk operation on jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobOperation)]
pub(super) struct JobOperationView {
    /// Id.
    id: String,
    /// Action: `requeue`, `cancel`, `discard` or `dismiss`.
    action: JobAction,
    /// Selects the jobs.
    filter: SelectionView,
    /// Maximum rate in jobs per second; missing if unlimited.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    /// Number of jobs.
    total: i64,
    /// Number of jobs not processed yet.
    pending: i64,
    /// Number of changed jobs.
    done: i64,
    /// Number of jobs that no longer needed a change.
    skipped: i64,
    /// Number of jobs that could not be changed.
    refused: i64,
    /// The job that carries out the operation.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
    /// Id of the requesting user.
    requested_by: String,
    /// Creation time.
    created_at: Timestamp,
    /// Time at which the last job was processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

/// Selects the jobs that match all fields.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobSelection)]
struct SelectionView {
    /// State.
    state: JobState,
    /// Kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    queue: Option<Queue>,
    /// Tenant id.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
    /// Code of the last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<ErrorCode>,
    /// Class of the last error.
    #[serde(skip_serializing_if = "Option::is_none")]
    error_class: Option<ErrorClass>,
    /// Created at or after this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_after: Option<Timestamp>,
    /// Created before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_before: Option<Timestamp>,
}

impl JobOperationView {
    /// The operation, with its job unless that was deleted.
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
            queue: selection.queue,
            tenant_id: selection.tenant_id.map(|id| id.to_string()),
            error_code: selection.error_code,
            error_class: selection.error_class,
            created_after: selection.created_after.map(Timestamp::from),
            created_before: selection.created_before.map(Timestamp::from),
        }
    }
}

/// Result of a dry run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = JobOperationPreview)]
pub(super) struct PreviewView<'a> {
    /// Number of matching jobs, counted up to 10,001: an operation takes at most 10,000.
    pub(super) total: u64,
    /// A sample of them.
    pub(super) sample: &'a [JobView],
}

/// Outcome for one job.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobOperationItem)]
pub(super) struct ItemView {
    /// Position in the operation, from 1.
    n: i64,
    /// Job id.
    job_id: String,
    /// Outcome: `pending`, `done`, `skipped` (no longer needed a change) or `refused`.
    outcome: ItemOutcome,
    /// Reason for `skipped` (`job_gone`, `state_changed`, `cancel_requested`) or `refused` (`secrets_gone`,
    /// `purge_scheduled`).
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<ItemReason>,
    /// The requeued job: a new one, or one that was already waiting.
    #[serde(skip_serializing_if = "Option::is_none")]
    new_job_id: Option<String>,
    /// Time of processing.
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
