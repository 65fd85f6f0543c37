//! Check of every response that a test receives: the OpenAPI document has its status, its headers and its error codes.

use std::sync::LazyLock;

use http::Method;
use serde_json::{Value, json};

use crate::client::Reply;

/// Headers that clients act on.
const HEADERS: [&str; 9] = [
    "content-disposition",
    "content-location",
    "etag",
    "idempotency-replayed",
    "location",
    "preference-applied",
    "retry-after",
    "www-authenticate",
    "x-request-id",
];

static DOCUMENT: LazyLock<Value> = LazyLock::new(dezky_api::document);

/// Panics if the document lacks something of `reply`. Requests outside of the document are ignored.
pub(crate) fn check(method: &Method, path: &str, reply: &Reply) {
    let Some(operation) = operation(method, path) else {
        return;
    };
    let status = reply.status.as_str();
    let what = || {
        let id = operation["operationId"].as_str().unwrap();
        format!("{id} {status}: {}", reply.body)
    };
    let response = resolved(&operation["responses"][status]);
    assert!(response.is_object(), "undocumented status: {}", what());

    for header in HEADERS {
        let is_documented = response["headers"]
            .as_object()
            .is_some_and(|headers| headers.keys().any(|name| name.eq_ignore_ascii_case(header)));
        let is_sent = reply.headers.contains_key(header);
        assert!(
            is_documented || !is_sent,
            "undocumented {header}: {}",
            what()
        );
    }
    let problem = &response["content"]["application/problem+json"]["schema"]["allOf"][1];
    // A response to HEAD has no body.
    if let Some(codes) = problem["properties"]["code"]["enum"].as_array()
        && *method != Method::HEAD
    {
        assert!(
            codes.contains(&reply.body["code"]),
            "undocumented code: {}",
            what()
        );
    }
    let fields = &DOCUMENT["components"]["schemas"]["FieldCode"]["enum"];
    for (_, code) in reply.errors() {
        let is_documented = fields.as_array().unwrap().contains(&json!(code));
        assert!(is_documented, "undocumented field error {code}: {}", what());
    }
}

/// The documented operation. A path without parameters is preferred, as the router does.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next()?;
    let method = if method == Method::HEAD {
        &Method::GET
    } else {
        method
    };
    let templates = DOCUMENT["paths"].as_object()?;
    let item = templates.get(path).or_else(|| {
        let mut matching = templates
            .iter()
            .filter(|(template, _)| matches(template, path));
        matching.next().map(|(_, item)| item)
    });
    item?.get(method.as_str().to_lowercase())
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    let is_same = |(template, segment): (&str, &str)| {
        template == segment || template.starts_with('{') && !segment.is_empty()
    };
    template.clone().count() == path.clone().count() && template.zip(path).all(is_same)
}

fn resolved(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => DOCUMENT.pointer(&reference[1..]).unwrap(),
        None => value,
    }
}
