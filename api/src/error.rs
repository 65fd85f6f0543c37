//! Error responses (RFC 9457). The only place that maps an error to a status code.

mod code;
mod field_code;

use std::convert::Infallible;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use dezky_shared::store::{
    StoreError, apps, domains, duplicate_key_index, members, partners, prices, saved_reports,
    subscriptions, tenants, users,
};
use http::{HeaderValue, StatusCode, header};
use mongodb::error::ErrorKind;
use serde::{Deserialize, Serialize};
use utoipa::{
    ToResponse, ToSchema,
    openapi::{Content, Ref, RefOr, Response as ResponseDescription, ResponseBuilder},
};

pub use self::{code::ProblemCode, field_code::FIELD_CODES};
use crate::response::REPLAYED;

/// Media type of a problem.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";
/// Maximum number of field errors in a response, which should not be larger than its request.
const MAX_ERRORS: usize = 100;
/// MongoDB error code `MaxTimeMSExpired`.
const MAX_TIME_EXPIRED: i32 = 50;
/// MongoDB error codes that a retry can resolve: no primary, a change of the primary, a shutdown or an overload.
const TRANSIENT: [i32; 7] = [MAX_TIME_EXPIRED, 91, 189, 10_107, 11_602, 13_435, 13_436];

/// An error response.
#[derive(Debug)]
pub struct ApiError {
    /// Stable code.
    pub code: ProblemCode,
    /// Explanation of this occurrence, for a human reader.
    pub detail: String,
    /// Errors of single fields and parameters.
    pub errors: Vec<FieldError>,
    /// `Retry-After`, in seconds.
    pub retry_after: Option<u32>,
    /// Whether this is the stored response to an earlier request.
    pub replayed: bool,
    /// Logged, never sent.
    cause: Option<anyhow::Error>,
}

/// Error of a field, a query parameter or a header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldError {
    /// JSON Pointer to the field (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Name of the query parameter or header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// Stable code.
    pub code: String,
    /// Explanation, for a human reader.
    pub message: String,
}

impl FieldError {
    /// Error of a field of the body.
    pub fn at(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// Error of a query parameter or header.
    pub fn parameter(name: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: None,
            parameter: Some(name.into()),
            code: code.to_owned(),
            message: message.into(),
        }
    }
}

impl ApiError {
    /// An error with the default detail of its code.
    pub fn new(code: ProblemCode) -> Self {
        Self {
            code,
            detail: code.detail().to_owned(),
            errors: Vec::new(),
            retry_after: code.retry_after(),
            replayed: false,
            cause: None,
        }
    }

    /// Replaces the detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// 400: a body or parameter of the wrong shape. Reports the first error.
    pub fn malformed(error: FieldError) -> Self {
        Self {
            detail: error.message.clone(),
            errors: vec![error],
            ..Self::new(ProblemCode::InvalidRequest)
        }
    }

    /// 422: invalid values. Reports up to `MAX_ERRORS` errors.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let mut error = Self::new(ProblemCode::ValidationFailed);
        if errors.len() > MAX_ERRORS {
            errors.truncate(MAX_ERRORS);
            error.detail = format!("See the first {MAX_ERRORS} errors.");
        }
        error.errors = errors;
        error
    }

    /// From a search. A timeout is an error that the caller can resolve with a narrower search.
    pub fn from_search(error: StoreError) -> Self {
        let timed_out = matches!(error.kind.as_ref(), ErrorKind::Command(command) if command.code == MAX_TIME_EXPIRED);
        if !timed_out {
            return error.into();
        }
        Self {
            cause: Some(error.into()),
            ..Self::new(ProblemCode::SearchTooLong)
        }
    }

    /// From a write. A violated unique index is a conflict that the caller can resolve.
    pub fn from_write(error: StoreError) -> Self {
        let code = duplicate_key_index(&error).and_then(|index| conflict(&index));
        code.map_or_else(|| error.into(), Self::new)
    }

    /// 500. The cause is logged.
    pub fn internal(cause: anyhow::Error) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(ProblemCode::InternalError)
        }
    }
}

/// Maps a unique index to the problem code of a duplicate key.
fn conflict(index: &str) -> Option<ProblemCode> {
    Some(match index {
        tenants::SLUG_INDEX | partners::SLUG_INDEX => ProblemCode::SlugTaken,
        tenants::DOMAIN_INDEX | domains::OWNED_INDEX => ProblemCode::DomainTaken,
        domains::CLAIM_INDEX => ProblemCode::DomainExists,
        apps::SLUG_INDEX => ProblemCode::AppExists,
        members::LOGIN_INDEX | members::ADDRESS_INDEX => ProblemCode::AddressTaken,
        users::SUBJECT_INDEX => ProblemCode::UserExists,
        subscriptions::LIVE_INDEX => ProblemCode::SubscriptionExists,
        prices::PRICE_INDEX => ProblemCode::PriceExists,
        saved_reports::NAME_INDEX => ProblemCode::SavedReportExists,
        _ => return None,
    })
}

impl From<serde_json::Error> for ApiError {
    fn from(error: serde_json::Error) -> Self {
        Self::internal(error.into())
    }
}

impl From<Infallible> for ApiError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl From<ProblemCode> for ApiError {
    fn from(code: ProblemCode) -> Self {
        Self::new(code)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let is_transient = matches!(
            error.kind.as_ref(),
            ErrorKind::ServerSelection { .. }
                | ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::DnsResolve { .. }
        ) || matches!(error.kind.as_ref(), ErrorKind::Command(command) if TRANSIENT.contains(&command.code))
            || error.contains_label(mongodb::error::RETRYABLE_WRITE_ERROR)
            || error.contains_label(mongodb::error::TRANSIENT_TRANSACTION_ERROR)
            || error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT);
        let code = if is_transient {
            ProblemCode::ServiceUnavailable
        } else {
            ProblemCode::InternalError
        };
        Self {
            cause: Some(error.into()),
            ..Self::new(code)
        }
    }
}

/// Problem details (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// URI of the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short description, the same for every occurrence of the code.
    pub title: &'static str,
    /// Status code.
    pub status: u16,
    /// Explanation of this occurrence, for a human reader.
    pub detail: String,
    /// Stable code.
    pub code: ProblemCode,
    /// Whether a retry of the unchanged request may succeed.
    pub retryable: bool,
    /// Request id, as in the logs.
    pub request_id: String,
    /// Errors of single fields and parameters.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl Problem {
    /// The problem of the request with this id.
    pub fn new(problem: impl Into<PendingProblem>, request_id: &str) -> Self {
        let PendingProblem {
            code,
            detail,
            errors,
        } = problem.into();
        Self {
            kind: format!("urn:dezky:problem:{}", code.name()),
            title: code.title(),
            status: code.status().as_u16(),
            detail,
            code,
            retryable: code.is_retryable(),
            request_id: request_id.to_owned(),
            errors,
        }
    }
}

impl<'r> ToResponse<'r> for Problem {
    fn response() -> (&'r str, RefOr<ResponseDescription>) {
        let schema = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description("Error")
            .content(PROBLEM_JSON, schema);
        ("Problem", response.build().into())
    }
}

/// A problem without its request id. The outermost layer, which has the id, writes the [`Problem`].
#[derive(Debug, Clone)]
pub struct PendingProblem {
    code: ProblemCode,
    detail: String,
    errors: Vec<FieldError>,
}

impl From<ProblemCode> for PendingProblem {
    fn from(code: ProblemCode) -> Self {
        Self {
            code,
            detail: code.detail().to_owned(),
            errors: Vec::new(),
        }
    }
}

impl From<ApiError> for PendingProblem {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code,
            detail: error.detail,
            errors: error.errors,
        }
    }
}

impl PendingProblem {
    /// The response for the request with this id. Keeps the headers that are set already.
    pub fn respond(self, request_id: &str, mut headers: http::HeaderMap) -> Response {
        let status = self.code.status();
        let problem = Problem::new(self, request_id);
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        (status, headers, Json(problem)).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            let cause = format!("{cause:#}");
            if self.code.is_retryable() {
                tracing::warn!(cause, "Request failed; a retry may succeed");
            } else {
                tracing::error!(cause, "Request failed");
            }
        }
        let mut response = self.code.status().into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code.status() == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, self.code.challenge());
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response.extensions_mut().insert(PendingProblem::from(self));
        response
    }
}
