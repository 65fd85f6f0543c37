//! Ends of jobs, for the audit trail.

use bson::doc;
use futures::TryStreamExt as _;
use serde::Deserialize;

use super::JobRepository;
use crate::{
    id::JobId,
    queue::job::{JobFailure, JobState},
    store::{StoreError, lenient::skip_undecodable},
};

/// The end of a job, or its current state.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobEnd {
    /// Job.
    #[serde(rename = "_id")]
    pub id: JobId,
    /// State.
    pub state: JobState,
    /// Last failure.
    #[serde(default)]
    pub error: Option<JobFailure>,
    /// Job that took over.
    #[serde(default)]
    pub superseded_by: Option<JobId>,
}

impl JobRepository {
    /// The states of these jobs, without the rest of their documents. A job that was deleted is missing.
    pub async fn ends(&self, ids: &[JobId]) -> Result<Vec<JobEnd>, StoreError> {
        let found = self.jobs.clone_with_type();
        let found = found
            .find(doc! { "_id": { "$in": ids.to_vec() } })
            .projection(doc! { "state": 1, "error": 1, "supersededBy": 1 })
            .await?;
        skip_undecodable(found).try_collect().await
    }
}
