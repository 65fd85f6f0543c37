//! Errors of Stripe: classification by status, type and code. Messages are never read: they contain personal data.

use http::StatusCode;
use serde::Deserialize;

use super::super::{ClientError, UpstreamResponse};
use dezky_shared::queue::error_code::ErrorCode;

/// Failure of a call with an idempotency key.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct KeyedError {
    /// The failure.
    pub error: ClientError,
    /// Whether a repeat with the key cannot have another result: Stripe has stored this one, or refuses the request.
    /// Otherwise the call is repeated with the same key.
    pub is_key_spent: bool,
    /// Stripe's code, if it has one.
    pub code: Option<String>,
}

/// Failures without a response leave the key unspent.
impl From<ClientError> for KeyedError {
    fn from(error: ClientError) -> Self {
        Self {
            is_key_spent: matches!(error, ClientError::Rejected(_)),
            code: None,
            error,
        }
    }
}

/// Body of an error.
#[derive(Debug, Deserialize)]
struct ErrorBody {
    error: ErrorDetail,
}

#[derive(Debug, Deserialize)]
struct ErrorDetail {
    #[serde(rename = "type")]
    kind: String,
    code: Option<String>,
    decline_code: Option<String>,
    param: Option<String>,
}

impl ErrorDetail {
    fn of(response: &UpstreamResponse) -> Option<Self> {
        let body: ErrorBody = serde_json::from_slice(&response.body).ok()?;
        Some(body.error)
    }

    fn is(&self, code: &str) -> bool {
        self.code.as_deref() == Some(code)
    }

    /// Text for operators: names only.
    fn describe(&self) -> String {
        let parts = [
            ("type", Some(&self.kind)),
            ("code", self.code.as_ref()),
            ("decline_code", self.decline_code.as_ref()),
            ("param", self.param.as_ref()),
        ];
        let parts = parts.into_iter().filter_map(|(name, value)| {
            let value = value.filter(|value| is_name(value))?;
            Some(format!("{name} {value}"))
        });
        parts.collect::<Vec<_>>().join(", ")
    }
}

/// Whether `text` can only be the name of a code or of a parameter.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"_[]-".contains(&byte);
    text.len() <= 100 && text.bytes().all(is_part)
}

/// Fails unless the response is a success.
pub(super) fn check(response: &UpstreamResponse) -> Result<(), ClientError> {
    if response.status.is_success() {
        return Ok(());
    }
    Err(classify(response))
}

/// Whether an object does not exist that the path or a parameter names.
pub(super) fn is_missing(response: &UpstreamResponse) -> bool {
    let may_be = [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&response.status);
    may_be && ErrorDetail::of(response).is_some_and(|error| error.is("resource_missing"))
}

/// Stripe's code of an error.
pub(super) fn code_of(response: &UpstreamResponse) -> Option<String> {
    ErrorDetail::of(response)?.code
}

/// Whether a repeat with the same key cannot have another result.
pub(super) fn is_key_spent(response: &UpstreamResponse) -> bool {
    match response.status.as_u16() {
        402 => true,
        // An internal error is a stored result, too, once it was replayed.
        500..=599 => response.headers.contains_key("idempotent-replayed"),
        400 | 404 => ErrorDetail::of(response).is_some(),
        _ => false,
    }
}

fn classify(response: &UpstreamResponse) -> ClientError {
    // An unreadable error comes from something in front of Stripe.
    let Some(error) = ErrorDetail::of(response) else {
        let call = response.failed("unreadable error");
        return match response.status.as_u16() {
            401 | 403 | 429 => response.error("unreadable error"),
            _ => ClientError::Unavailable(call),
        };
    };
    let detail = error.describe();
    let call = response.failed(&detail);
    let refused = |code| ClientError::UserAction {
        call: response.failed(&detail),
        code,
    };
    match response.status.as_u16() {
        402 => refused(ErrorCode::PaymentRefused),
        400 if error.kind == "idempotency_error" => refused(ErrorCode::IdempotencyMisused),
        400 if error.is("livemode_mismatch") => refused(ErrorCode::PaymentProviderMode),
        400 if error.is("setup_intent_unexpected_state") => refused(ErrorCode::SetupIntentUnusable),
        // The key or the object is in use by another request, or depends on one that failed.
        409 | 424 | 500..=599 => ClientError::Unavailable(call),
        _ => response.error(&detail),
    }
}
