//! JSON bodies: bounded in size and time, strict, and validated as a whole.

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

/// Maximum size of a body.
const BODY_LIMIT: usize = 256 * 1024;
/// Timeout of reading a body. Shorter than a request's, so that a slow caller gets 408 and not 503.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Byte order mark, which parsers may ignore (RFC 8259, section 8.1).
const BOM: &[u8] = "\u{feff}".as_bytes();

/// A validated body.
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

/// Reads the body of a request, at most [`BODY_LIMIT`] bytes in [`BODY_TIMEOUT`].
pub(crate) async fn read_body(headers: &HeaderMap, body: Body) -> Result<Bytes, ApiError> {
    read(headers, body, BODY_TIMEOUT).await
}

async fn read(headers: &HeaderMap, body: Body, limit: Duration) -> Result<Bytes, ApiError> {
    let content_length = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    if content_length.is_some_and(|length| length > BODY_LIMIT) {
        return Err(ProblemCode::PayloadTooLarge.into());
    }
    let Ok(body) = timeout(limit, Limited::new(body, BODY_LIMIT).collect()).await else {
        return Err(ProblemCode::BodyTimeout.into());
    };
    match body {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ProblemCode::PayloadTooLarge.into()),
        Err(_) => {
            Err(ApiError::new(ProblemCode::InvalidRequest).with_detail("The body is incomplete."))
        }
    }
}

/// Parses and validates a JSON body.
pub(crate) fn parse<T: Validate>(
    headers: &HeaderMap,
    bytes: &[u8],
    config: &Config,
) -> Result<T, ApiError> {
    let bytes = if bytes.is_empty() && T::MAY_BE_EMPTY {
        b"{}"
    } else {
        if !is_json(headers) {
            return Err(ProblemCode::UnsupportedMediaType.into());
        }
        if is_encoded(headers) {
            let detail = "Send the body without Content-Encoding.";
            return Err(ApiError::new(ProblemCode::UnsupportedMediaType).with_detail(detail));
        }
        bytes.strip_prefix(BOM).unwrap_or(bytes)
    };
    let raw = strict_json::read(bytes).map_err(ApiError::malformed)?;
    if let Some(nul) = strict_json::find_nul(bytes) {
        return Err(ApiError::invalid(vec![nul]));
    }
    T::validate(raw, config).map_err(ApiError::invalid)
}

fn is_json(headers: &HeaderMap) -> bool {
    ["application/json", "application/merge-patch+json"].contains(&media_type(headers).as_str())
}

fn is_encoded(headers: &HeaderMap) -> bool {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).into_iter();
    encodings.any(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity"))
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

        let read = read(&HeaderMap::new(), never, Duration::from_millis(20)).await;

        assert_eq!(read.unwrap_err().code.status(), 408);
    }
}
