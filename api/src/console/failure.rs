//! Failures, as pages.

use askama::Template;
use axum::response::{IntoResponse, Response};
use dezky_shared::store::StoreError;
use http::{HeaderValue, StatusCode, header};

use super::html;
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
    /// `Retry-After`, in seconds.
    retry_after: Option<HeaderValue>,
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
            retry_after: None,
        }
    }

    /// The failure that a handler of the API responded with.
    pub(super) fn of_response(mut response: Response) -> Self {
        let status = response.status();
        let failure = match response.extensions_mut().remove::<PendingProblem>() {
            Some(problem) => Self::of_problem(Problem::new(problem, "")),
            None => Self::titled(status, status.canonical_reason().unwrap_or("Failed"), ""),
        };
        Self {
            retry_after: response.headers_mut().remove(header::RETRY_AFTER),
            ..failure
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
            retry_after: None,
        }
    }

    /// Explanation in one line.
    pub(super) fn summary(&self) -> String {
        let errors = self.errors.join(" ");
        format!("{}. {} {errors}", self.title, self.detail)
            .trim()
            .to_owned()
    }

    /// Seconds to wait before the request is repeated.
    fn wait(&self) -> Option<&str> {
        self.retry_after.as_ref()?.to_str().ok()
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
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = html::respond(status, &self);
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

/// Failure of a response without a meaning, which no handler sends.
pub(super) fn unexpected(cause: anyhow::Error, request: &RequestInfo) -> Failure {
    let cause = cause.context(format!("request {}", request.id));
    ApiError::internal(cause).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_when_to_try_again() {
        let mut error = ApiError::new(ProblemCode::TooManyRequests);
        error.retry_after = Some(7);
        let failure = Failure::from(error);

        let page = failure.render().unwrap();
        let response = failure.into_response();

        assert!(page.contains("Try again in 7 seconds."), "{page}");
        assert_eq!(response.headers()[header::RETRY_AFTER], "7");
    }
}
