//! What Authentik means when it does not do as asked.
//!
//! The body of an error may be an object of lists, of strings or of objects, a bare list, a bare string, a page
//! of HTML, or nothing: it is read as any JSON, and flattened.

use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::Value;

use crate::clients::{ClientError, UpstreamResponse};

/// The details of a 403 that mean the token; any other means a permission.
const TOKEN_REFUSED: [&str; 2] = [
    "Token invalid/expired",
    "Authentication credentials were not provided.",
];

/// What a refused recovery link says that only an operator can mend.
const RECOVERY_REFUSED: [&str; 2] = [
    "No recovery flow set.",
    "Recovery flow not applicable to user",
];

/// The error that an answer means which is not the success that was hoped for.
pub(super) fn classify(answer: &UpstreamResponse, token: &SecretString) -> ClientError {
    if answer.status.is_success() {
        return answer.error("a success of another kind");
    }
    let complaints = ErrorDetail::all(answer);
    let detail = complaints
        .iter()
        .map(ErrorDetail::to_string)
        .collect::<Vec<_>>()
        .join("; ")
        .replace(token.expose_secret(), "***");
    let token_refused = complaints.iter().any(|complaint| {
        complaint.path == "detail" && TOKEN_REFUSED.contains(&complaint.text.as_str())
    });
    if answer.status == StatusCode::FORBIDDEN && token_refused {
        return ClientError::Credentials(answer.failed(&detail));
    }
    answer.error(&detail)
}

/// Whether the value of `field` is taken. Authentik says so with a 400, in two wordings.
pub(super) fn is_duplicate(answer: &UpstreamResponse, field: &str) -> bool {
    answer.status == StatusCode::BAD_REQUEST
        && ErrorDetail::all(answer).iter().any(|complaint| {
            complaint.path == field
                && (complaint.text.ends_with("already exists.")
                    || complaint.text == "This field must be unique.")
        })
}

/// Whether no link for a new password can be made, because no flow is set up for it. The text is no list here.
pub(super) fn lacks_recovery_flow(answer: &UpstreamResponse) -> bool {
    answer.status == StatusCode::BAD_REQUEST
        && ErrorDetail::all(answer).iter().any(|complaint| {
            complaint.path == "non_field_errors"
                && RECOVERY_REFUSED.contains(&complaint.text.as_str())
        })
}

/// Whether a filter names an object that does not exist: nothing can match it, but Authentik answers 400.
pub(super) fn names_missing_object(answer: &UpstreamResponse) -> bool {
    answer.status == StatusCode::BAD_REQUEST
        && ErrorDetail::all(answer)
            .iter()
            .any(|complaint| complaint.text.starts_with("Select a valid choice."))
}

/// One text in the body of an error, and where it stood.
#[derive(Debug, PartialEq)]
struct ErrorDetail {
    path: String,
    text: String,
}

impl ErrorDetail {
    fn all(answer: &UpstreamResponse) -> Vec<Self> {
        let mut complaints = Vec::new();
        match serde_json::from_slice(&answer.body) {
            Ok(body) => Self::collect("", &body, &mut complaints),
            Err(_) if answer.body.is_empty() => {}
            // What it says instead is for a browser.
            Err(_) => Self::collect("", &Value::from("not JSON"), &mut complaints),
        }
        complaints
    }

    /// A list adds nothing to the path, so that `{"name": ["taken"]}` and `{"name": "taken"}` read the same.
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
        let mut complaints = Vec::new();
        ErrorDetail::collect("", body, &mut complaints);
        complaints
            .iter()
            .map(ErrorDetail::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    }

    #[test]
    fn every_shape_of_error_becomes_one_short_text() {
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
