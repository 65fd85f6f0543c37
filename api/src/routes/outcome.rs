//! `Prefer: wait`: the response to a change after its job is final.

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{queue::job::Job, tenant::Tenant};
use http::StatusCode;
use tokio::time::Instant;

use crate::{
    error::ApiError,
    extract::Caller,
    response::ApiResponse,
    routes::jobs::until_final,
    write::{Command, CommandResult, CommandRunner},
};

/// Runs `command` while no other command with the same `key` runs in this process, and waits for its job as [`await_job`]
/// does.
pub(super) async fn run_and_await(
    runner: &CommandRunner<'_>,
    key: &str,
    tenant: Option<&Tenant>,
    command: &impl Command,
) -> Result<(ApiResponse, Option<(Job, Caller)>), ApiError> {
    let deadline = runner.prefer.deadline();
    let CommandResult { response, job } = runner.run_serialized(key, tenant, command).await?;
    Ok((response, await_job(runner, job, deadline).await?))
}

/// Runs `command`, and waits for its job as [`await_job`] does. Returns the command's response, in the job's state after a
/// wait.
pub(super) async fn run_and_respond(
    runner: &CommandRunner<'_>,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let deadline = runner.prefer.deadline();
    let CommandResult { response, job } = runner.run(command).await?;
    Ok(match await_job(runner, job, deadline).await? {
        Some((job, _)) => preference_applied(in_state_of(response, &job)),
        None => response.into_response(),
    })
}

/// Waits until `job` is final or `deadline` passes. Returns the job, and the caller with current permissions; `None`
/// without a job or a deadline.
pub(super) async fn await_job(
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
pub(super) fn status_of(job: Option<&Job>) -> StatusCode {
    match job {
        Some(job) if !job.state.is_final() => StatusCode::ACCEPTED,
        _ => StatusCode::OK,
    }
}

/// A response with a member `job`, as of the job's current state: 200 once it is final.
pub(super) fn in_state_of(mut response: ApiResponse, job: &Job) -> ApiResponse {
    response.status = status_of(Some(job));
    response.body["job"]["state"] = job.state.name().into();
    response
}

/// The response after a wait.
pub(super) fn preference_applied(response: ApiResponse) -> Response {
    ([("preference-applied", "wait")], response).into_response()
}
