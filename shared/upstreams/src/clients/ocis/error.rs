//! Classification of the graph API's error responses. The messages are free text, used for details only.

use http::StatusCode;
use serde::Deserialize;

use crate::clients::{ClientError, UpstreamResponse};

/// Error body of the graph API.
#[derive(Deserialize)]
struct Problem {
    error: ProblemDetail,
}

#[derive(Deserialize)]
struct ProblemDetail {
    code: String,
    #[serde(default)]
    message: String,
}

impl Problem {
    /// Parses an error body; `None` if the response is not from the graph API.
    fn of(response: &UpstreamResponse) -> Option<ProblemDetail> {
        let problem: Self = serde_json::from_slice(&response.body).ok()?;
        Some(problem.error)
    }
}

/// Classification of oCIS responses.
pub(super) trait ResponseExt: Sized {
    /// The response if it is a success, else its error.
    fn error_for_status(self) -> Result<Self, ClientError>;
    /// `None` if the object does not exist or is hidden from us.
    fn optional(self) -> Result<Option<Self>, ClientError>;
}

impl ResponseExt for UpstreamResponse {
    fn error_for_status(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(error_of(&self))
        }
    }

    fn optional(self) -> Result<Option<Self>, ClientError> {
        if self.status == StatusCode::NOT_FOUND && Problem::of(&self).is_some() {
            return Ok(None);
        }
        self.error_for_status().map(Some)
    }
}

/// Error of a response.
fn error_of(response: &UpstreamResponse) -> ClientError {
    let problem = Problem::of(response);
    let detail = problem.as_ref().map_or_else(String::new, |problem| {
        format!("{}: {}", problem.code, problem.message)
    });
    match response.status.as_u16() {
        404 if problem.is_none() => {
            ClientError::Rejected(response.failed("no such route; check OCIS_API_URL"))
        }
        // An object our account may not see or change looks missing.
        404 => ClientError::Permission(response.failed(&format!(
            "{detail}; the object was deleted, or our account lacks a permission"
        ))),
        409 => ClientError::Conflict(response.failed(&detail)),
        500 if response.body.is_empty() => ClientError::Unavailable(response.failed(
            "oCIS could not resolve our account or its role: check its OIDC claims, its role assignment and the requested scopes",
        )),
        501 => ClientError::Rejected(response.failed(&detail)),
        _ => response.error(&detail),
    }
}
