//! JMAP errors of a method call, and of one object in a `/set`.

use std::fmt;

use serde_json::{Value, json};

use super::object::{Id, Kind};

/// Error of a method call.
pub(super) struct MethodError {
    pub(super) kind: &'static str,
    pub(super) description: String,
}

impl MethodError {
    pub(super) fn new(kind: &'static str, description: &str) -> Self {
        Self {
            kind,
            description: description.to_owned(),
        }
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            "requestTooLarge",
            "The number of ids requested by the client exceeds the maximum number the server is willing to process in a single method call.",
        )
    }
}

/// Error of one object in a `/set`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SetError(pub(super) Value);

impl fmt::Display for SetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SetError {
    pub(super) fn not_found() -> Self {
        Self(json!({ "type": "notFound" }))
    }

    pub(super) fn invalid_patch(description: &str, property: &str) -> Self {
        Self(
            json!({ "type": "invalidPatch", "description": description, "properties": [property] }),
        )
    }

    pub(super) fn missing_type() -> Self {
        Self::invalid_patch("Missing or invalid '@type' property in object", "")
    }

    pub(super) fn weak_secret(description: &str) -> Self {
        Self(
            json!({ "type": "invalidProperties", "description": description, "properties": ["secret"] }),
        )
    }

    pub(super) fn taken(property: &str, kind: Kind, id: Id) -> Self {
        Self(json!({
            "type": "primaryKeyViolation",
            "properties": [property],
            "objectId": object_id(kind.name(), &id.to_string()),
        }))
    }

    pub(super) fn unknown_domain(id: &str) -> Self {
        Self(json!({ "type": "invalidForeignKey", "objectId": object_id("Domain", id) }))
    }
}

pub(super) fn object_id(object: &str, id: &str) -> Value {
    json!({ "object": object, "id": id })
}
