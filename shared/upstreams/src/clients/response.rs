//! Response of an upstream, and its default classification.

use std::{fmt, num::IntErrorKind, time::Duration};

use dezky_shared::upstream::Upstream;
use http::{HeaderMap, StatusCode};
use serde::de::DeserializeOwned;

use super::{ClientError, FailedCall, Operation, OperationKind};

/// Maximum accepted `Retry-After`; a longer one counts as a misconfiguration.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Response of an upstream.
pub struct UpstreamResponse {
    pub(super) upstream: Upstream,
    pub(super) operation: Operation,
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
    pub(super) request_id: Option<String>,
}

/// Without headers and body, which may contain secrets.
impl fmt::Debug for UpstreamResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UpstreamResponse")
            .field("upstream", &self.upstream)
            .field("operation", &self.operation.name)
            .field("status", &self.status)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

impl UpstreamResponse {
    /// Decodes the body of a successful response.
    ///
    /// An undecodable response to a write means that its outcome is unknown.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, ClientError> {
        serde_json::from_slice(&self.body).map_err(|error| self.unreadable(&error.to_string()))
    }

    /// Error for a successful response with an invalid body.
    pub fn unreadable(&self, detail: &str) -> ClientError {
        let call = self.failed(&format!("invalid response: {detail}"));
        match self.operation.kind {
            OperationKind::Read => ClientError::InvalidResponse(call),
            OperationKind::Write => ClientError::AnswerLost(call),
        }
    }

    /// Default classification of the status.
    ///
    /// A gateway timeout on a write (502, 504) leaves its outcome unknown.
    pub fn error(&self, detail: &str) -> ClientError {
        let call = self.failed(detail);
        match self.status.as_u16() {
            401 => ClientError::Credentials(call),
            403 => ClientError::Permission(call),
            408 | 425 | 429 => ClientError::RateLimited {
                call,
                retry_after: self.retry_after(),
            },
            502 | 504 if self.operation.kind == OperationKind::Write => {
                ClientError::AnswerLost(call)
            }
            500..=599 => ClientError::Unavailable(call),
            200..=299 => self.unreadable(detail),
            _ => ClientError::Rejected(call),
        }
    }

    /// Description of this call, for an error that the client itself constructs.
    pub fn failed(&self, detail: &str) -> FailedCall {
        FailedCall {
            upstream: self.upstream,
            operation: self.operation.name,
            status: Some(self.status),
            request_id: self.request_id.clone(),
            detail: detail.chars().take(500).collect(),
        }
    }

    /// `Retry-After` in seconds (RFC 9110, section 10.2.3), one hour at most; the date form is ignored.
    pub fn retry_after(&self) -> Option<Duration> {
        seconds(self.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?)
    }
}

fn seconds(value: &str) -> Option<Duration> {
    let seconds = match value.trim().parse::<u64>() {
        Ok(seconds) => seconds,
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => u64::MAX,
        Err(_) => return None,
    };
    Some(Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_limited_to_an_hour() {
        for (value, wait) in [
            ("0", Some(Duration::ZERO)),
            (" 7 ", Some(Duration::from_secs(7))),
            ("3601", Some(MAX_RETRY_AFTER)),
            ("18446744073709551615", Some(MAX_RETRY_AFTER)),
            ("99999999999999999999999", Some(MAX_RETRY_AFTER)),
            ("-1", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ] {
            assert_eq!(seconds(value), wait, "{value}");
        }
    }
}
