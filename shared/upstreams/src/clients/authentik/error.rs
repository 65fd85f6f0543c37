//! Classification of Authentik's error responses.
//!
//! The body may be an object of lists, strings or objects, a list, a string, an HTML page, or empty: it is parsed as
//! generic JSON and flattened.

use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::clients::{ClientError, UpstreamResponse};

/// Details of a 403 that concern the token; any other concerns a permission.
const TOKEN_REFUSED: [&str; 2] = [
    "Token invalid/expired",
    "Authentication credentials were not provided.",
];

/// Errors of a recovery link that only an operator can resolve.
const RECOVERY_REFUSED: [&str; 2] = [
    "No recovery flow set.",
    "Recovery flow not applicable to user",
];

/// Error for a response without the expected status.
pub(super) fn classify(response: &UpstreamResponse, token: &SecretString) -> ClientError {
    if response.status.is_success() {
        return response.error("an unexpected success status");
    }
    let details = ErrorDetail::all(response);
    let detail = details
        .iter()
        .map(ErrorDetail::to_string)
        .collect::<Vec<_>>()
        .join("; ")
        .replace(token.expose_secret(), "***");
    let token_refused = details
        .iter()
        .any(|detail| detail.path == "detail" && TOKEN_REFUSED.contains(&detail.text.as_str()));
    if response.status == StatusCode::FORBIDDEN && token_refused {
        return ClientError::Credentials(response.failed(&detail));
    }
    response.error(&detail)
}

/// Whether the value of `field` is taken. Authentik returns 400, with one of two messages.
pub(super) fn is_duplicate(response: &UpstreamResponse, field: &str) -> bool {
    response.status == StatusCode::BAD_REQUEST
        && ErrorDetail::all(response).iter().any(|detail| {
            detail.path == field
                && (detail.text.ends_with("already exists.")
                    || detail.text == "This field must be unique.")
        })
}

/// Whether no recovery flow is configured. The message is not a list here.
pub(super) fn lacks_recovery_flow(response: &UpstreamResponse) -> bool {
    response.status == StatusCode::BAD_REQUEST
        && ErrorDetail::all(response).iter().any(|detail| {
            detail.path == "non_field_errors" && RECOVERY_REFUSED.contains(&detail.text.as_str())
        })
}

/// Whether a filter references an object that does not exist: nothing matches, but Authentik returns 400.
pub(super) fn names_missing_object(response: &UpstreamResponse) -> bool {
    response.status == StatusCode::BAD_REQUEST
        && ErrorDetail::all(response)
            .iter()
            .any(|detail| detail.text.starts_with("Select a valid choice."))
}

/// Text in the body of an error, with its path.
#[derive(Debug, PartialEq)]
struct ErrorDetail {
    path: String,
    text: String,
}

impl ErrorDetail {
    fn all(response: &UpstreamResponse) -> Vec<Self> {
        let mut details = Vec::new();
        match serde_json::from_slice(&response.body) {
            Ok(body) => Self::collect("", &body, &mut details),
            Err(_) if response.body.is_empty() => {}
            // A body that is not JSON is meant for browsers.
            Err(_) => Self::collect("", &Value::from("not JSON"), &mut details),
        }
        details
    }

    /// Lists add nothing to the path, so that `{"name": ["taken"]}` and `{"name": "taken"}` are equivalent.
    fn collect(path: &str, value: &Value, into: &mut Vec<Self>) {
        match value {
            Value::Null => {}
            Value::Array(values) => {
                for value in values {
                    Self::collect(path, value, into);
                }
            }
            Value::Object(members) => {
                for (key, value) in members {
                    let path = match path {
                        "" => key.clone(),
                        path => format!("{path}.{key}"),
                    };
                    Self::collect(&path, value, into);
                }
            }
            value => into.push(Self {
                path: path.to_owned(),
                text: value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned),
            }),
        }
    }
}

impl std::fmt::Display for ErrorDetail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn flattened(body: &Value) -> String {
        let mut details = Vec::new();
        ErrorDetail::collect("", body, &mut details);
        details
            .iter()
            .map(ErrorDetail::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn every_shape_of_error_body_becomes_one_short_text() {
        let table = [
            (json!({ "detail": "Not found." }), "detail: Not found."),
            (
                json!({ "name": ["required"], "path": ["a", "b"] }),
                "name: required; path: a; path: b",
            ),
            (
                json!({ "non_field_errors": "No recovery flow set." }),
                "non_field_errors: No recovery flow set.",
            ),
            (
                json!({ "grant_types": { "0": ["no choice"] } }),
                "grant_types.0: no choice",
            ),
            (
                json!(["filter: failed to parse JSON"]),
                "filter: failed to parse JSON",
            ),
            (json!("plain"), "plain"),
            (json!({ "code": 7, "more": null }), "code: 7"),
            (json!({}), ""),
        ];

        for (body, expected) in table {
            assert_eq!(flattened(&body), expected);
        }
    }
}
