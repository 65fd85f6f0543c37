//! Request bodies and error responses of the graph API.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

/// Prefix of the message when the body of a request for users or groups is refused.
pub(super) const PREFIX: &str = "invalid request body: ";

/// An error response of the graph API.
pub(super) fn refusal(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status of three digits");
    let body = json!({ "error": { "code": code, "message": message, "innererror": {} } });
    (status, Json(body)).into_response()
}

pub(super) fn new_id() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}

pub(super) fn not_found() -> Response {
    refusal(404, "itemNotFound", "not found")
}

pub(super) fn no_such_space() -> Response {
    refusal(404, "itemNotFound", "drive not found")
}

pub(super) fn forbidden() -> Response {
    refusal(403, "accessDenied", "Forbidden")
}

/// The 404 of the real server's router, which is not in the graph API's format.
pub(super) fn no_such_route() -> Response {
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        "404 page not found\n",
    )
        .into_response()
}

/// Reason why a body is rejected.
pub(super) enum Unreadable {
    Malformed(&'static str),
    UnknownField(String),
}

/// Parses a JSON object and rejects fields other than `known`.
pub(super) fn object(body: &[u8], known: &[&str]) -> Result<Map<String, Value>, Unreadable> {
    let malformed = if body.is_empty() {
        "EOF"
    } else {
        "unexpected EOF"
    };
    let object: Map<String, Value> =
        serde_json::from_slice(body).map_err(|_| Unreadable::Malformed(malformed))?;
    match object.keys().find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(Unreadable::UnknownField(field.clone())),
        None => Ok(object),
    }
}

impl Unreadable {
    /// The error in the form of most handlers; `prefix` differs between them.
    pub(super) fn refusal(&self, prefix: &str) -> Response {
        let message = match self {
            Self::Malformed(what) => format!("{prefix}{what}"),
            Self::UnknownField(field) => format!("{prefix}json: unknown field \"{field}\""),
        };
        refusal(400, "invalidRequest", &message)
    }
}

/// A string field of a parsed body.
pub(super) fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}
