//! Problem responses of every operation: those that follow from its parameters, its body and its callers, and those of
//! its own.

mod specific;

use std::collections::BTreeMap;

use serde_json::{Value, json};

#[cfg(test)]
pub(super) use self::specific::listed_operations;
use super::{Operation, reference, responses};
use crate::error::{PROBLEM_JSON, ProblemCode};

/// Rejections of a token.
const TOKEN: [ProblemCode; 7] = [
    ProblemCode::TokenMissing,
    ProblemCode::TokenInvalid,
    ProblemCode::TokenExpired,
    ProblemCode::TokenNotYetValid,
    ProblemCode::TokenWrongIssuer,
    ProblemCode::TokenWrongAudience,
    ProblemCode::TokenWrongSubject,
];
/// Failures of the service, whatever the request is.
const UNAVAILABLE: [ProblemCode; 5] = [
    ProblemCode::ServiceUnavailable,
    ProblemCode::Starting,
    ProblemCode::IdentityUnavailable,
    ProblemCode::Timeout,
    ProblemCode::TooManyConnections,
];
/// The same, and the one that refuses reads alone.
const UNAVAILABLE_FOR_READS: [ProblemCode; 6] = [
    ProblemCode::ServiceUnavailable,
    ProblemCode::Starting,
    ProblemCode::IdentityUnavailable,
    ProblemCode::Timeout,
    ProblemCode::TooManyConnections,
    ProblemCode::TooManyResponses,
];
/// Problems of an idempotency key.
const IDEMPOTENCY_KEY: [ProblemCode; 3] = [
    ProblemCode::InvalidIdempotencyKey,
    ProblemCode::IdempotencyInProgress,
    ProblemCode::IdempotencyKeyReused,
];
/// Problems of a body. A write without one accepts an empty object.
const BODY: [ProblemCode; 4] = [
    ProblemCode::BodyTimeout,
    ProblemCode::PayloadTooLarge,
    ProblemCode::UnsupportedMediaType,
    ProblemCode::ValidationFailed,
];
/// Responses that most operations share, as components.
const SHARED: [(&str, &[ProblemCode]); 10] = [
    ("Unauthorized", &TOKEN),
    ("Forbidden", &[ProblemCode::Forbidden]),
    ("NotFound", &[ProblemCode::NotFound]),
    ("BodyTimeout", &[ProblemCode::BodyTimeout]),
    ("PreconditionFailed", &[ProblemCode::PreconditionFailed]),
    ("PayloadTooLarge", &[ProblemCode::PayloadTooLarge]),
    ("UnsupportedMediaType", &[ProblemCode::UnsupportedMediaType]),
    ("TooManyRequests", &[ProblemCode::TooManyRequests]),
    ("Unavailable", &UNAVAILABLE),
    ("UnavailableForReads", &UNAVAILABLE_FOR_READS),
];

/// Adds the shared responses to the components.
pub(super) fn add_components(components: &mut Value) {
    for (name, codes) in SHARED {
        components[name] = response(codes);
    }
}

/// Adds the problem responses of an operation. Public operations define their own, but for the limit per address.
pub(super) fn add(operation: &mut Operation<'_>) {
    if operation.is_public() {
        let own: Vec<ProblemCode> = specific::codes(operation.id()).collect();
        add_responses(operation, own);
        operation.fields["responses"]["429"] = reference("responses", "TooManyRequests");
        return;
    }
    let codes = codes(operation);
    add_responses(operation, codes);
    operation.fields["responses"]["default"] = reference("responses", "Problem");
}

/// Adds the responses with these codes.
fn add_responses(operation: &mut Operation<'_>, codes: Vec<ProblemCode>) {
    let mut by_status: BTreeMap<u16, Vec<ProblemCode>> = BTreeMap::new();
    for code in codes {
        let of_status = by_status.entry(code.status().as_u16()).or_default();
        if !of_status.contains(&code) {
            of_status.push(code);
        }
    }
    let responses = &mut operation.fields["responses"];
    for (status, codes) in by_status {
        let shared = SHARED.iter().find(|(_, shared)| *shared == codes);
        responses[status.to_string()] = match shared {
            Some((name, _)) => reference("responses", name),
            None => response(&codes),
        };
    }
}

/// Codes that the operation can respond with.
fn codes(operation: &Operation<'_>) -> Vec<ProblemCode> {
    let mut codes = vec![
        ProblemCode::InvalidRequest,
        ProblemCode::Forbidden,
        ProblemCode::TooManyRequests,
        ProblemCode::InternalError,
    ];
    codes.extend(TOKEN);
    if operation.is_read() {
        codes.extend(UNAVAILABLE_FOR_READS);
    } else {
        codes.extend(UNAVAILABLE);
    }
    if operation.has_parameter_in("path") {
        codes.push(ProblemCode::NotFound);
    }
    if operation.has_parameter("query", "cursor") {
        codes.push(ProblemCode::InvalidCursor);
    }
    if operation.has_parameter("header", "If-Match") {
        codes.push(ProblemCode::PreconditionFailed);
    }
    if operation.has_parameter("header", "Idempotency-Key") {
        codes.extend(IDEMPOTENCY_KEY);
    }
    if !operation.is_read() {
        codes.extend(BODY);
    } else if operation.has_parameter_in("query") {
        codes.push(ProblemCode::ValidationFailed);
    }
    codes.extend(specific::codes(operation.id()));
    codes
}

fn response(codes: &[ProblemCode]) -> Value {
    let lines = codes
        .iter()
        .map(|code| format!("- `{}`: {}.", code.name(), code.title()));
    let description = lines.collect::<Vec<_>>().join("\n");
    let names: Vec<&str> = codes.iter().map(|code| code.name()).collect();
    let code =
        json!({ "type": "object", "properties": { "code": { "type": "string", "enum": names } } });
    let schema = json!({ "allOf": [reference("schemas", "Problem"), code] });
    json!({
        "description": description,
        "headers": responses::references(&headers(codes)),
        "content": { PROBLEM_JSON: { "schema": schema } },
    })
}

fn headers(codes: &[ProblemCode]) -> Vec<&'static str> {
    let mut names = vec!["RequestId"];
    if codes
        .iter()
        .any(|code| code.retry_after().is_some() || code.is_retryable())
    {
        names.push("RetryAfter");
    }
    if codes.iter().any(|code| TOKEN.contains(code)) {
        names.push("WwwAuthenticate");
    }
    let is_stored = |code: &ProblemCode| matches!(code.status().as_u16(), 400 | 415 | 422);
    if codes.iter().any(is_stored) {
        names.push("IdempotencyReplayed");
    }
    names
}
