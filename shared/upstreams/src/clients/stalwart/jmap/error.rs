//! Errors of a JMAP reply: set errors, and the classification of statuses and method errors.

use serde::Deserialize;
use serde_json::Value;

use crate::clients::{ClientError, UpstreamResponse};

/// Set error: the reason why one object of a `/set` was rejected.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::clients::stalwart) struct SetError {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    properties: Vec<String>,
    object_id: Option<ObjectId>,
    #[serde(default)]
    linked_objects: Vec<ObjectId>,
}

/// Id with its type: ids are unique per type only.
#[derive(Debug, Clone, Deserialize)]
pub(in crate::clients::stalwart) struct ObjectId {
    pub(in crate::clients::stalwart) object: String,
    pub(in crate::clients::stalwart) id: String,
}

impl SetError {
    /// Whether the object does not exist (any more).
    pub(in crate::clients::stalwart) fn is_not_found(&self) -> bool {
        self.kind == "notFound"
    }

    /// Objects that depend on this one, if they caused the error.
    pub(in crate::clients::stalwart) fn dependants(&self) -> Option<&[ObjectId]> {
        (self.kind == "objectIsLinked").then_some(self.linked_objects.as_slice())
    }

    /// Whether another object has the name or the address.
    pub(in crate::clients::stalwart) fn is_taken(&self) -> bool {
        self.kind == "primaryKeyViolation"
    }

    /// Id of the `object` that already has the name, if it caused the error.
    pub(in crate::clients::stalwart) fn holder(&self, object: &str) -> Option<&str> {
        let holder = self.object_id.as_ref()?;
        (self.kind == "primaryKeyViolation" && holder.object == object).then_some(&holder.id)
    }

    pub(super) fn describe(&self) -> String {
        let Self {
            kind,
            description,
            properties,
            ..
        } = self;
        format!("{kind} {properties:?} {description}")
    }
}

/// Classification of an unsuccessful status.
pub(super) fn classify_status(response: &UpstreamResponse) -> ClientError {
    /// Problem details that are the server's own words: its `detail` can contain our whole request.
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Problem {
        #[serde(rename = "type")]
        kind: String,
        limit: String,
    }

    match response.status.as_u16() {
        400 => {
            let Problem { kind, limit } =
                serde_json::from_slice(&response.body).unwrap_or_default();
            let call = response.failed(&format!("{kind} {limit}"));
            if limit == "maxConcurrentRequests" {
                return ClientError::RateLimited {
                    call,
                    retry_after: None,
                };
            }
            ClientError::Rejected(call)
        }
        // A 429 without `Retry-After` is not a rate limit but a permanent ban.
        429 if response.retry_after().is_none() => {
            ClientError::Credentials(response.failed("our IP address is banned"))
        }
        _ => response.error(""),
    }
}

/// Classification of a method reply called `error`.
pub(super) fn classify_method_error(response: &UpstreamResponse, error: &Value) -> ClientError {
    let text = |member: &str| error.get(member).and_then(Value::as_str).unwrap_or("?");
    let kind = text("type");
    match kind {
        // A lost write race, or a storage failure. Other objects of the same call may have been written.
        "serverUnavailable" | "serverFail" | "serverPartialFail" => {
            ClientError::Unavailable(response.failed(kind))
        }
        "forbidden" => ClientError::Permission(response.failed(text("description"))),
        _ => ClientError::Rejected(response.failed(kind)),
    }
}
