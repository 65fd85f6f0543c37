//! Failures, as pages.

use askama::Template;
use axum::response::{IntoResponse, Response};
use dezky_shared::store::StoreError;
use http::StatusCode;

use super::page;
use crate::{
    error::{ApiError, PendingProblem, Problem, ProblemCode},
    extract::RequestInfo,
};

/// A request that failed: what happened, and what to do.
#[derive(Debug, Template)]
#[template(path = "console/failure.html")]
pub(super) struct Failure {
    status: u16,
    title: String,
    detail: String,
    errors: Vec<String>,
}

impl Failure {
    /// A failure with this code and explanation.
    pub(super) fn new(code: ProblemCode, detail: &str) -> Self {
        ApiError::new(code).with_detail(detail).into()
    }

    /// A failure that no handler of the API has.
    pub(super) fn titled(status: StatusCode, title: &str, detail: &str) -> Self {
        Self {
            status: status.as_u16(),
            title: title.to_owned(),
            detail: detail.to_owned(),
            errors: Vec::new(),
        }
    }

    /// The failure that a handler of the API responded with.
    pub(super) fn of_response(mut response: Response) -> Self {
        let status = response.status();
        match response.extensions_mut().remove::<PendingProblem>() {
            Some(problem) => Self::of_problem(Problem::new(problem, "")),
            None => Self {
                status: status.as_u16(),
                title: status.canonical_reason().unwrap_or("Failed").to_owned(),
                detail: String::new(),
                errors: Vec::new(),
            },
        }
    }

    fn of_problem(problem: Problem) -> Self {
        Self {
            status: problem.status,
            title: problem.title.to_owned(),
            detail: problem.detail,
            errors: problem
                .errors
                .into_iter()
                .map(|error| error.message)
                .collect(),
        }
    }

    /// Explanation in one line.
    pub(super) fn summary(&self) -> String {
        let errors = self.errors.join(" ");
        format!("{}. {} {errors}", self.title, self.detail)
            .trim()
            .to_owned()
    }

    /// Whether signing in again may help.
    fn needs_sign_in(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED.as_u16()
    }
}

/// Logs the cause, as for a response of the API.
impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::of_response(error.into_response())
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status);
        page::respond(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &self)
    }
}

/// Failure of a response without a meaning, which no handler sends.
pub(super) fn unexpected(cause: anyhow::Error, request: &RequestInfo) -> Failure {
    let cause = cause.context(format!("request {}", request.id));
    ApiError::internal(cause).into()
}
