//! What a caller is told when a request is refused: the one place that chooses a status (RFC 9457).

mod code;

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use dezky_shared::store::StoreError;
use http::{HeaderValue, StatusCode, header};
use mongodb::error::ErrorKind;
use serde::{Deserialize, Serialize};
use utoipa::{
    ToResponse, ToSchema,
    openapi::{Content, Ref, RefOr, Response as ResponseDescription, ResponseBuilder},
};

pub use self::code::ProblemCode;

/// The type of a refusal's body.
const PROBLEM_JSON: &str = "application/problem+json";
/// The most errors that are told at once: an answer should not be larger than its request.
const ERRORS: usize = 100;
/// What MongoDB says of a question that was given less time than it takes.
const MAX_TIME_EXPIRED: i32 = 50;
/// What a node says that is not the primary, not any more, or not for long; or that is busy.
const PASSING: [i32; 7] = [MAX_TIME_EXPIRED, 91, 189, 10_107, 11_602, 13_435, 13_436];

/// A refusal, on its way to the caller.
#[derive(Debug)]
pub struct ApiError {
    /// What is wrong, as a stable name.
    pub code: ProblemCode,
    /// What is wrong, for a person.
    pub detail: String,
    /// What is wrong with each field.
    pub errors: Vec<FieldError>,
    /// After how many seconds trying again makes sense.
    pub retry_after: Option<u32>,
    /// Whether it is the stored answer to an earlier request.
    pub replayed: bool,
    /// Logged, and never sent.
    cause: Option<anyhow::Error>,
}

/// What is wrong with one field or parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FieldError {
    /// Where it is in the body (RFC 6901).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pointer: Option<String>,
    /// Which query parameter or header it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameter: Option<String>,
    /// A stable name for what is wrong.
    pub code: String,
    /// The same, for a person.
    pub message: String,
}

impl FieldError {
    /// Something wrong in the body.
    pub fn at(pointer: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self {
            pointer: Some(pointer.into()),
            parameter: None,
            code: code.to_owned(),
            message: message.into(),
        }
    }

    /// Something wrong with a query parameter or header.
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
    /// A refusal with the code's usual text.
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

    /// The same, with a text of its own.
    #[must_use]
    pub fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    /// A body or parameter of the wrong shape: the first thing that is wrong.
    pub fn malformed(error: FieldError) -> Self {
        Self {
            detail: error.message.clone(),
            errors: vec![error],
            ..Self::new(ProblemCode::InvalidRequest)
        }
    }

    /// Values that cannot be taken: all of them, up to a hundred.
    pub fn invalid(mut errors: Vec<FieldError>) -> Self {
        let mut error = Self::new(ProblemCode::ValidationFailed);
        if errors.len() > ERRORS {
            errors.truncate(ERRORS);
            error.detail = format!("See the first {ERRORS} errors.");
        }
        error.errors = errors;
        error
    }

    /// Of a search, whose caller can ask for less.
    pub fn from_search(error: StoreError) -> Self {
        let is_too_long =
            matches!(error.kind.as_ref(), ErrorKind::Command(why) if why.code == MAX_TIME_EXPIRED);
        if !is_too_long {
            return error.into();
        }
        Self {
            cause: Some(error.into()),
            ..Self::new(ProblemCode::SearchTooLong)
        }
    }

    /// Something that should not have happened.
    pub fn internal(cause: anyhow::Error) -> Self {
        Self {
            cause: Some(cause),
            ..Self::new(ProblemCode::InternalError)
        }
    }
}

impl From<ProblemCode> for ApiError {
    fn from(code: ProblemCode) -> Self {
        Self::new(code)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let away = matches!(
            error.kind.as_ref(),
            ErrorKind::ServerSelection { .. }
                | ErrorKind::Io(_)
                | ErrorKind::ConnectionPoolCleared { .. }
                | ErrorKind::DnsResolve { .. }
        ) || matches!(error.kind.as_ref(), ErrorKind::Command(why) if PASSING.contains(&why.code))
            || error.contains_label(mongodb::error::RETRYABLE_WRITE_ERROR)
            || error.contains_label(mongodb::error::TRANSIENT_TRANSACTION_ERROR)
            || error.contains_label(mongodb::error::UNKNOWN_TRANSACTION_COMMIT_RESULT);
        let code = if away {
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

/// The body of a refusal (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// A URI that stands for the code.
    #[serde(rename = "type")]
    pub kind: String,
    /// What the code means.
    pub title: &'static str,
    /// The status, once more.
    pub status: u16,
    /// What is wrong here.
    pub detail: String,
    /// What is wrong, as a stable name.
    pub code: ProblemCode,
    /// Whether the same request may succeed later.
    pub retryable: bool,
    /// The request, as it stands in the logs.
    pub request_id: String,
    /// What is wrong with each field or parameter.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

impl<'r> ToResponse<'r> for Problem {
    fn response() -> (&'r str, RefOr<ResponseDescription>) {
        let schema = Content::new(Some(Ref::from_schema_name("Problem")));
        let response = ResponseBuilder::new()
            .description("The request is refused")
            .content(PROBLEM_JSON, schema);
        ("Problem", response.build().into())
    }
}

/// What the outermost layer, which knows the request's id, makes a [`Problem`] of.
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

impl PendingProblem {
    /// The response for the request with this id, with the headers that are there already.
    pub fn respond(self, request_id: &str, mut headers: http::HeaderMap) -> Response {
        let status = self.code.status();
        let problem = Problem {
            kind: format!("urn:dezky:problem:{}", self.code.name()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: self.detail,
            code: self.code,
            retryable: self.code.is_retryable(),
            request_id: request_id.to_owned(),
            errors: self.errors,
        };
        headers.remove(header::CONTENT_LENGTH);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        (status, headers, Json(problem)).into_response()
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        if let Some(cause) = &self.cause {
            let cause = format!("{cause:#}");
            if self.code.is_retryable() {
                tracing::warn!(cause, "A request cannot be served at present");
            } else {
                tracing::error!(cause, "A request failed");
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
            headers.insert(crate::intent::REPLAYED, HeaderValue::from_static("true"));
        }
        response.extensions_mut().insert(PendingProblem {
            code: self.code,
            detail: self.detail,
            errors: self.errors,
        });
        response
    }
}
