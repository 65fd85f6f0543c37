//! Bodies: bounded in size and time; JSON ones are strict, and validated as a whole.

mod strict_json;

use std::time::Duration;

use axum::body::{Body, Bytes};
use http::{HeaderMap, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::time::timeout;

pub(crate) use self::strict_json::Object;
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
};

/// Maximum size of a JSON body.
const JSON_LIMIT: usize = 256 * 1024;
/// Timeout of reading a body. Shorter than a request's, so that a slow caller gets 408 and not 503.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Byte order mark, which parsers may ignore (RFC 8259, section 8.1).
const BOM: &[u8] = "\u{feff}".as_bytes();

/// A body of a write request.
pub trait FromBody: Sized + Send {
    /// Maximum size, in bytes.
    const LIMIT: usize;

    /// Parses and validates a body of this media type.
    fn from_body(headers: &HeaderMap, bytes: &[u8], config: &Config) -> Result<Self, ApiError>;
}

/// A validated JSON body.
pub trait Validate: Sized + Send {
    /// The JSON form.
    type Raw: DeserializeOwned;
    /// Whether an empty body is read as an empty object.
    const MAY_BE_EMPTY: bool = false;

    /// Validates all fields, and returns all violations.
    fn validate(raw: Self::Raw, config: &Config) -> Result<Self, Vec<FieldError>>;
}

/// No body, or an empty object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyBody {}

impl Validate for EmptyBody {
    type Raw = Self;
    const MAY_BE_EMPTY: bool = true;

    fn validate(raw: Self, _: &Config) -> Result<Self, Vec<FieldError>> {
        Ok(raw)
    }
}

impl<T: Validate> FromBody for T {
    const LIMIT: usize = JSON_LIMIT;

    fn from_body(headers: &HeaderMap, bytes: &[u8], config: &Config) -> Result<Self, ApiError> {
        let bytes = if bytes.is_empty() && T::MAY_BE_EMPTY {
            b"{}"
        } else {
            if !is_json(headers) {
                return Err(ProblemCode::UnsupportedMediaType.into());
            }
            ensure_not_encoded(headers)?;
            without_bom(bytes)
        };
        let raw = read_json(bytes).map_err(ApiError::malformed)?;
        if let Some(nul) = strict_json::find_nul(bytes) {
            return Err(ApiError::invalid(vec![nul]));
        }
        T::validate(raw, config).map_err(ApiError::invalid)
    }
}

/// Parses strict JSON, or returns the first error with its location.
pub(crate) fn read_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FieldError> {
    strict_json::read(bytes)
}

/// Reads the body of a request, at most `max` bytes in [`BODY_TIMEOUT`].
pub(crate) async fn read_body(
    headers: &HeaderMap,
    body: Body,
    max: usize,
) -> Result<Bytes, ApiError> {
    read(headers, body, max, BODY_TIMEOUT).await
}

async fn read(
    headers: &HeaderMap,
    body: Body,
    max: usize,
    limit: Duration,
) -> Result<Bytes, ApiError> {
    let content_length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    let too_large = || {
        let detail = format!("The body must be at most {} KiB.", max / 1024);
        ApiError::new(ProblemCode::PayloadTooLarge).with_detail(detail)
    };
    if content_length.is_some_and(|length| length > max) {
        return Err(too_large());
    }
    let Ok(body) = timeout(limit, Limited::new(body, max).collect()).await else {
        return Err(ProblemCode::BodyTimeout.into());
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large()),
        Err(_) => {
            Err(ApiError::new(ProblemCode::InvalidRequest).with_detail("The body is incomplete."))
        }
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    ["application/json", "application/merge-patch+json"].contains(&media_type(headers).as_str())
}

/// Rejects a compressed body: its size would not be bounded.
pub(crate) fn ensure_not_encoded(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).into_iter();
    if encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "Send the body without Content-Encoding.";
    Err(ApiError::new(ProblemCode::UnsupportedMediaType).with_detail(detail))
}

/// The body without a byte order mark.
pub(crate) fn without_bom(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(BOM).unwrap_or(bytes)
}

/// The media type without parameters, in lower case; empty if there is none.
pub(crate) fn media_type(headers: &HeaderMap) -> String {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value.and_then(|value| value.to_str().ok());
    let essence = text.and_then(|text| text.split(';').next());
    essence.unwrap_or_default().trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_body_that_never_arrives_times_out() {
        let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());

        let limit = Duration::from_millis(20);
        let read = read(&HeaderMap::new(), never, JSON_LIMIT, limit).await;

        assert_eq!(read.unwrap_err().code.status(), 408);
    }
}
