//! JSON responses of handlers.

use axum::{
    body::Body,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde::Serialize;
use serde_json::Value;

use crate::etag::ETag;

/// Header of a stored response, sent again for a repeated `Idempotency-Key`.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
/// `Retry-After` of a 202, in seconds: when to poll the job.
const POLL_AFTER: u32 = 2;

/// Marks a response that has its body whatever its status is, such as a page of the console.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Complete;

/// A response with a JSON body. Unlike an axum response it can be stored with an idempotency key.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiResponse {
    /// Status code.
    pub status: StatusCode,
    /// `Location`: where to follow the outcome.
    pub location: Option<String>,
    /// `ETag` of the body.
    pub etag: Option<String>,
    /// The resource, as GET returns it.
    pub body: Value,
    /// Whether this is the stored response to an earlier request.
    pub replayed: bool,
    /// Name of a member of the body that is sent once and never stored.
    pub secret: Option<&'static str>,
}

impl ApiResponse {
    /// A versioned resource. Panics if the body has no JSON form, which every view has.
    pub fn new(status: StatusCode, etag: ETag, body: &impl Serialize) -> Self {
        Self {
            etag: Some(etag.to_string()),
            ..Self::unversioned(status, body)
        }
    }

    /// A resource without versions.
    pub fn unversioned(status: StatusCode, body: &impl Serialize) -> Self {
        Self {
            status,
            location: None,
            etag: None,
            body: serde_json::to_value(body).expect("views have a JSON form"),
            replayed: false,
            secret: None,
        }
    }

    /// Marks a member of the body as a one-time secret: a replay has null in its place, and `secretAlreadyShown`.
    #[must_use]
    pub fn with_one_time_secret(mut self, secret: &'static str) -> Self {
        self.secret = Some(secret);
        self
    }

    /// Sets `Location`.
    #[must_use]
    pub fn at(mut self, location: String) -> Self {
        self.location = Some(location);
        self
    }
}

impl IntoResponse for ApiResponse {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body.to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        let texts = [(header::LOCATION, self.location), (header::ETAG, self.etag)];
        for (name, value) in texts {
            if let Some(value) = value.and_then(|value| HeaderValue::try_from(value).ok()) {
                headers.insert(name, value);
            }
        }
        if self.status == StatusCode::ACCEPTED {
            headers.insert(header::RETRY_AFTER, POLL_AFTER.into());
        }
        if self.replayed {
            headers.insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }
}
