//! Errors of the simulated Stripe, in the shape of its API.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Error response.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Type of the error, such as `card_error`.
    pub kind: String,
    /// Code, if the error has one.
    #[serde(default)]
    pub code: Option<Box<str>>,
    /// Parameter that the error concerns.
    #[serde(default)]
    pub param: Option<Box<str>>,
    /// Reason of the card issuer.
    #[serde(default)]
    pub decline_code: Option<Box<str>>,
    /// Message for developers.
    #[serde(default)]
    pub message: String,
    /// Object that the error embeds, by its name.
    #[serde(default)]
    pub object: Option<Box<(String, Value)>>,
}

impl Refusal {
    /// A refused request.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(400, "invalid_request_error", None, message)
    }

    /// A declined card.
    pub fn card_declined() -> Self {
        Self {
            decline_code: Some("generic_decline".into()),
            ..Self::new(
                402,
                "card_error",
                Some("card_declined"),
                "Your card was declined.",
            )
        }
    }

    /// A request with the same key is running.
    pub fn key_in_use() -> Self {
        let message = "There is currently another in-progress request using this Stripe API key.";
        Self::new(
            409,
            "idempotency_error",
            Some("idempotency_key_in_use"),
            message,
        )
    }

    /// The object is locked by another request.
    pub fn lock_timeout() -> Self {
        let message =
            "This object cannot be accessed right now because another request is using it.";
        Self::new(429, "invalid_request_error", Some("lock_timeout"), message)
    }

    /// The rate limit is exceeded.
    pub fn rate_limit() -> Self {
        let message = "Request rate limit exceeded.";
        Self::new(429, "invalid_request_error", Some("rate_limit"), message)
    }

    /// An internal error.
    pub fn internal() -> Self {
        Self::new(500, "api_error", None, "An unknown error occurred.")
    }

    /// The key lacks a permission.
    pub fn permission() -> Self {
        let message = "The provided key does not have the required permissions.";
        Self::new(403, "invalid_request_error", None, message)
    }

    pub(super) fn key_reused() -> Self {
        let message = "Keys for idempotent requests can only be used with the same parameters they were first used with.";
        Self::new(400, "idempotency_error", None, message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(
            401,
            "invalid_request_error",
            None,
            "Invalid API Key provided.",
        )
    }

    pub(super) fn no_route() -> Self {
        Self::new(
            404,
            "invalid_request_error",
            None,
            "Unrecognized request URL.",
        )
    }

    /// The object of the path does not exist.
    pub(super) fn missing(id: &str) -> Self {
        Self {
            param: Some("id".into()),
            ..Self::new(
                404,
                "invalid_request_error",
                Some("resource_missing"),
                format!("No such object: '{id}'"),
            )
        }
    }

    /// The object that a parameter names does not exist.
    pub(super) fn missing_param(param: &str, id: &str) -> Self {
        Self {
            status: 400,
            param: Some(param.into()),
            ..Self::missing(id)
        }
    }

    /// A refused parameter.
    pub(super) fn param(code: &str, param: &str, message: impl Into<String>) -> Self {
        Self {
            code: Some(code.into()),
            param: Some(param.into()),
            ..Self::invalid(message)
        }
    }

    /// An act that the state of the object does not allow.
    pub(super) fn unexpected_state(code: &str) -> Self {
        Self {
            code: Some(code.into()),
            ..Self::invalid("The object's status does not allow this operation.")
        }
    }

    fn new(status: u16, kind: &str, code: Option<&str>, message: impl Into<String>) -> Self {
        Self {
            status,
            kind: kind.to_owned(),
            code: code.map(Into::into),
            param: None,
            decline_code: None,
            message: message.into(),
            object: None,
        }
    }

    /// Whether an idempotency key stores this response: the request had begun to run.
    pub(super) fn is_result(&self) -> bool {
        self.status == 402 || self.status >= 500
    }

    fn body(&self) -> Value {
        let mut error = json!({ "type": self.kind, "message": self.message });
        let texts = [
            ("code", &self.code),
            ("param", &self.param),
            ("decline_code", &self.decline_code),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                error[name] = json!(text);
            }
        }
        if let Some(code) = &self.code {
            error["doc_url"] = json!(format!("https://stripe.com/docs/error-codes/{code}"));
        }
        if let Some(embedded) = &self.object {
            let (name, object) = &**embedded;
            error[name.as_str()] = object.clone();
        }
        json!({ "error": error })
    }

    /// Headers that tell a client more about the error.
    fn headers(&self) -> Option<(&'static str, &'static str)> {
        match (self.status, self.code.as_deref()) {
            (429, Some("rate_limit")) => Some(("stripe-rate-limited-reason", "endpoint-rate")),
            (409 | 429 | 500.., _) => Some(("stripe-should-retry", "true")),
            _ => None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        if let Some((name, value)) = self.headers() {
            let value = HeaderValue::from_static(value);
            response
                .headers_mut()
                .insert(HeaderName::from_static(name), value);
        }
        response
    }
}
