//! What the statuses of the graph API mean. Its messages are free text, so they only explain.

use http::StatusCode;
use serde::Deserialize;

use crate::clients::{ClientError, UpstreamResponse};

/// How a refusal of the graph API describes itself.
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
    /// Reads a refusal; `None` when the answer does not come from the graph API.
    fn of(answer: &UpstreamResponse) -> Option<ProblemDetail> {
        let problem: Self = serde_json::from_slice(&answer.body).ok()?;
        Some(problem.error)
    }
}

/// What an answer of oCIS means.
pub(super) trait ResponseExt: Sized {
    /// This answer if it is a success, else the error that it stands for.
    fn error_for_status(self) -> Result<Self, ClientError>;
    /// `None` if what was asked for does not exist, or is hidden from us.
    fn optional(self) -> Result<Option<Self>, ClientError>;
}

impl ResponseExt for UpstreamResponse {
    fn error_for_status(self) -> Result<Self, ClientError> {
        if self.status.is_success() {
            Ok(self)
        } else {
            Err(refusal(&self))
        }
    }

    fn optional(self) -> Result<Option<Self>, ClientError> {
        if self.status == StatusCode::NOT_FOUND && Problem::of(&self).is_some() {
            return Ok(None);
        }
        self.error_for_status().map(Some)
    }
}

/// The error that an answer stands for.
fn refusal(answer: &UpstreamResponse) -> ClientError {
    let problem = Problem::of(answer);
    let detail = problem.as_ref().map_or_else(String::new, |problem| {
        format!("{}: {}", problem.code, problem.message)
    });
    match answer.status.as_u16() {
        404 if problem.is_none() => {
            ClientError::Rejected(answer.failed("no such route; is OCIS_API_URL right?"))
        }
        // What our account may not see or change answers as if it did not exist.
        404 => ClientError::Permission(answer.failed(&format!(
            "{detail}; it is gone, or our account lacks a right to it"
        ))),
        409 => ClientError::Conflict(answer.failed(&detail)),
        500 if answer.body.is_empty() => ClientError::Unavailable(answer.failed(
            "oCIS could not resolve our account or its role: check its OIDC claims, its role assignment and the scopes we ask for",
        )),
        501 => ClientError::Rejected(answer.failed(&detail)),
        _ => answer.error(&detail),
    }
}
