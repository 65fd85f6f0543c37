//! Descriptions and headers of responses, by status and kind of operation.

use serde_json::{Value, json};

use super::{Operation, objects, reference};

/// A response header: name of its component, name on the wire, description.
const HEADERS: [(&str, &str, &str); 9] = [
    (
        "RequestId",
        "X-Request-Id",
        "Id of the request, as in the logs: the one that the caller sent, or a new one.",
    ),
    (
        "ETag",
        "ETag",
        "Version of the resource, for `If-Match` and `If-None-Match`.",
    ),
    (
        "Location",
        "Location",
        "Path of the created resource, or of the job that carries out the change.",
    ),
    (
        "RetryAfter",
        "Retry-After",
        "Seconds to wait before the next request.",
    ),
    (
        "IdempotencyReplayed",
        "Idempotency-Replayed",
        "`true`: the stored response to an earlier request with the same `Idempotency-Key`.",
    ),
    (
        "PreferenceApplied",
        "Preference-Applied",
        "`wait`: the response waited for the outcome.",
    ),
    (
        "ContentDisposition",
        "Content-Disposition",
        "File name of the export.",
    ),
    (
        "ContentLocation",
        "Content-Location",
        "Path of the job in the body, if it superseded the requested one.",
    ),
    (
        "WwwAuthenticate",
        "WWW-Authenticate",
        "Challenge (RFC 6750).",
    ),
];

/// Operation that reads a job, or the job that superseded it.
const READS_JOB: &str = "getJob";
/// Operations that change the job in their path, which their response is then about.
const CHANGE_JOB: [&str; 2] = ["cancelJob", "dismissJob"];
/// Operations in the lists above.
#[cfg(test)]
pub(super) const LISTED_OPERATIONS: [&str; 3] = [READS_JOB, CHANGE_JOB[0], CHANGE_JOB[1]];

/// The components of all response headers.
pub(super) fn headers() -> Value {
    let component = |(name, wire, description): (&str, &str, &str)| {
        let kind = if wire == "Retry-After" {
            "integer"
        } else {
            "string"
        };
        let header = json!({ "description": description, "schema": { "type": kind } });
        (name.to_owned(), header)
    };
    Value::Object(HEADERS.map(component).into_iter().collect())
}

/// References to the components of these headers, by name on the wire.
pub(super) fn references(components: &[&str]) -> Value {
    let chosen = HEADERS
        .iter()
        .filter(|(name, _, _)| components.contains(name));
    let members = chosen.map(|(name, wire, _)| ((*wire).to_owned(), reference("headers", name)));
    Value::Object(members.collect())
}

/// Completes the responses of an operation other than problems.
pub(super) fn complete(operation: &mut Operation<'_>) {
    let facts = Facts::of(operation);
    for (status, response) in objects(operation.fields.get_mut("responses")) {
        if !response["$ref"].is_null() || !response["headers"].is_null() {
            continue;
        }
        if response["description"].is_null() {
            response["description"] = facts.description(status).into();
        }
        let names = facts.headers(status, response);
        response["headers"] = references(&names);
        if let Some(stream) = response.pointer_mut("/content/text~1event-stream") {
            *stream = event_stream(&stream["schema"]);
        }
    }
}

/// A stream of events, each with a document as its data. OpenAPI 3.1 has no schema for the items of a stream.
fn event_stream(document: &Value) -> Value {
    let name = document["$ref"].as_str().unwrap_or_default();
    let schema = json!({ "type": "string", "description": "Server-sent events." });
    json!({ "schema": schema, "x-item-schema": { "$ref": format!("{name}Event") } })
}

/// Properties of an operation that determine the headers of its responses.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each with a name"
)]
struct Facts {
    is_list: bool,
    is_read: bool,
    is_idempotent: bool,
    waits: bool,
    is_job: bool,
    /// Whether the operation changes the job in its path, which its response is then about.
    changes_job: bool,
}

impl Facts {
    fn of(operation: &Operation<'_>) -> Self {
        let id = operation.id();
        Self {
            is_list: id.starts_with("list"),
            is_read: operation.is_read(),
            is_idempotent: operation.has_parameter("header", "Idempotency-Key"),
            waits: operation.has_parameter("header", "Prefer"),
            is_job: id == READS_JOB,
            changes_job: CHANGE_JOB.contains(&id),
        }
    }

    fn description(&self, status: &str) -> &'static str {
        match status {
            "200" if self.is_list => "A page.",
            "200" if !self.is_idempotent => "Success.",
            "200" => "The change is complete.",
            "201" => "Created.",
            "202" => "Accepted. The job in the body carries out the change.",
            "204" => "There will be no newer state.",
            "302" => "The document is at `Location`, at the payment provider.",
            "304" => "The caller's version is the current one.",
            _ => "The service is not ready.",
        }
    }

    fn headers(&self, status: &str, response: &Value) -> Vec<&'static str> {
        let mut names = vec!["RequestId"];
        let is_json = !response["content"]["application/json"].is_null();
        if status == "304" || is_json && !self.is_list {
            names.push("ETag");
        }
        let is_about_job = self.waits && !self.is_read || self.changes_job;
        if ["201", "202", "302"].contains(&status) || is_about_job {
            names.push("Location");
        }
        if status == "202" || status == "503" {
            names.push("RetryAfter");
        }
        if self.is_idempotent {
            names.push("IdempotencyReplayed");
        }
        if self.waits {
            names.push("PreferenceApplied");
        }
        if !response["content"]["text/csv"].is_null() {
            names.push("ContentDisposition");
        }
        if self.is_job && status == "200" {
            names.push("ContentLocation");
        }
        names
    }
}
