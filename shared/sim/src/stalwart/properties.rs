//! Properties of a stored object: a JSON object and typed access to its members.

use serde_json::{Map, Value};

/// Properties of a stored object, secrets included.
pub(super) type Object = Map<String, Value>;

/// Access to properties.
pub(super) trait Properties {
    /// A string; empty if the property is none.
    fn text(&self, name: &str) -> &str;
    /// An object, set or list, if the property is one.
    fn members(&self, name: &str) -> Option<&Object>;
    /// The `@type` of a variant; empty if the property is none.
    fn variant(&self, name: &str) -> &str;
}

impl Properties for Object {
    fn text(&self, name: &str) -> &str {
        self.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    fn members(&self, name: &str) -> Option<&Object> {
        self.get(name)?.as_object()
    }

    fn variant(&self, name: &str) -> &str {
        self.members(name)
            .map_or("", |variant| variant.text("@type"))
    }
}
