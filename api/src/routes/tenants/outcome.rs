//! `Prefer: wait`: the response to a change after its job is final.

use axum::response::{IntoResponse as _, Response};
use dezky_shared::queue::job::Job;
use http::StatusCode;
use tokio::time::Instant;

use crate::{
    error::ApiError, extract::Caller, response::ApiResponse, routes::jobs::until_final,
    write::CommandRunner,
};

/// Waits until `job` is final or `deadline` passes. Returns the job, and the caller with current permissions; `None`
/// without a job or a deadline.
pub(in crate::routes) async fn await_job(
    runner: &CommandRunner<'_>,
    job: Option<Job>,
    deadline: Option<Instant>,
) -> Result<Option<(Job, Caller)>, ApiError> {
    let (Some(job), Some(deadline)) = (job, deadline) else {
        return Ok(None);
    };
    let mut caller = runner.caller.clone();
    let job = until_final(runner.app, &mut caller, job, deadline).await?;
    Ok(Some((job, caller)))
}

/// 202 while a job carries the change out, otherwise 200.
pub(in crate::routes) fn status_of(job: Option<&Job>) -> StatusCode {
    match job {
        Some(job) if !job.state.is_final() => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    }
}

/// The response after a wait.
pub(in crate::routes) fn preference_applied(response: ApiResponse) -> Response {
    ([("preference-applied", "wait")], response).into_response()
}
