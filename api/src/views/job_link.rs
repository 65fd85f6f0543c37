//! Link to a job.

use dezky_shared::{
    id::JobId,
    queue::job::{Job, JobState},
};
use serde::Serialize;
use utoipa::ToSchema;

/// Path of a job.
pub fn job_href(id: JobId) -> String {
    format!("/jobs/{id}")
}

/// The job that carries out a change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct JobLink {
    /// Id.
    #[schema(value_type = String, format = Uuid)]
    pub id: JobId,
    /// State.
    pub state: JobState,
    /// Path of the job.
    pub href: String,
}

impl From<&Job> for JobLink {
    fn from(job: &Job) -> Self {
        Self {
            id: job.id,
            state: job.state,
            href: job_href(job.id),
        }
    }
}
