//! Statistics of jobs.

use std::collections::BTreeMap;

use axum::Json;
use dezky_shared::{
    queue::job::{JobState, Queue},
    store::jobs::JobCounts,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::list::JobQuery;
use crate::{
    error::ApiError,
    extract::{PlatformReader, QueryParams},
    read::Get,
};

/// Maximum number of counted jobs.
const COUNT_LIMIT: i64 = 10_000;

/// Numbers of jobs.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = JobStats)]
pub(super) struct StatsView {
    /// Number of counted jobs: the newest that match the filters, at most 10,000.
    counted: u64,
    /// Whether every matching job was counted.
    is_complete: bool,
    /// Number of jobs in each state that occurs.
    states: BTreeMap<JobState, u64>,
    /// Number of jobs of each kind that occurs.
    kinds: BTreeMap<String, u64>,
    /// Number of jobs of each queue that occurs.
    queues: BTreeMap<Queue, u64>,
    /// Number of jobs with each code of a failure that occurs.
    error_codes: BTreeMap<String, u64>,
    /// Number of jobs with each class of a failure that occurs.
    error_classes: BTreeMap<String, u64>,
}

impl From<JobCounts> for StatsView {
    fn from(counts: JobCounts) -> Self {
        Self {
            is_complete: counts.counted < COUNT_LIMIT.cast_unsigned(),
            counted: counts.counted,
            states: counts.states,
            kinds: counts.kinds,
            queues: counts.queues,
            error_codes: counts.error_codes,
            error_classes: counts.error_classes,
        }
    }
}

/// Counts jobs by state, kind, queue and failure
///
/// Counts the newest jobs that match the filters, at most 10,000.
#[utoipa::path(
    get, path = "/jobs/stats", operation_id = "countJobs", tag = "jobs", params(JobQuery),
    responses((status = 200, body = StatsView)),
)]
pub(super) async fn stats(
    get: Get<PlatformReader, QueryParams<JobQuery>>,
) -> Result<Json<StatsView>, ApiError> {
    let filter = get.params.0.filter(&get.app, &get.access.0, None).await?;
    let counts = get.app.db.jobs.stats(&filter, COUNT_LIMIT).await;
    Ok(Json(counts.map_err(ApiError::from_search)?.into()))
}
