//! How the graph API refuses, and how strictly it reads.

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use http::{StatusCode, header};
use serde_json::{Map, Value, json};

/// The error body of the graph API.
pub(super) fn refusal(status: u16, code: &str, message: &str) -> Response {
    let status = StatusCode::from_u16(status).expect("a status of three digits");
    let body = json!({ "error": { "code": code, "message": message, "innererror": {} } });
    (status, Json(body)).into_response()
}

/// What the router of the real one says: not the graph API's own form.
pub(super) fn no_such_route() -> Response {
    (
        StatusCode::NOT_FOUND,
        [(header::CONTENT_TYPE, "text/plain; charset=utf-8")],
        "404 page not found\n",
    )
        .into_response()
}

/// Why a body cannot be read.
pub(super) enum Unreadable {
    Malformed(&'static str),
    UnknownField(String),
}

/// Reads a JSON object that has no other fields than `known`.
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
    /// As most handlers say it; `prefix` differs between them.
    pub(super) fn refusal(&self, prefix: &str) -> Response {
        let message = match self {
            Self::Malformed(what) => format!("{prefix}{what}"),
            Self::UnknownField(field) => format!("{prefix}json: unknown field \"{field}\""),
        };
        refusal(400, "invalidRequest", &message)
    }
}

/// A text field of a body that was read.
pub(super) fn text<'a>(body: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    body.get(field).and_then(Value::as_str)
}
