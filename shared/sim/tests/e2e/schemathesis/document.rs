//! The document as schemathesis is given it.

use serde_json::{Value, json};

/// Parameters left out: waiting, which takes time, and the key that makes most requests a repetition of another.
const LEFT_OUT: [&str; 2] = ["wait", "Idempotency-Key"];

/// Forbids what an answer holds beyond the document, which callers have to put up with so that fields can be added.
/// Leaves out streams and [`LEFT_OUT`].
pub(super) fn make_strict(document: &mut Value) {
    let paths = document["paths"].as_object_mut().unwrap();
    paths.retain(|path, _| !path.ends_with("/events"));
    let items = paths.values_mut().map(|item| item.as_object_mut().unwrap());
    for operation in items.flat_map(|item| item.values_mut()) {
        if let Some(Value::Array(parameters)) = operation.get_mut("parameters") {
            parameters.retain(|parameter| !LEFT_OUT.iter().any(|name| parameter["name"] == *name));
        }
    }
    let open = document.clone();
    close(document, &open);
}

/// Every object has the fields that are named, and no others.
fn close(schema: &mut Value, document: &Value) {
    if let Some(parts) = schema["allOf"].as_array() {
        *schema = merged(parts, document);
    }
    match schema {
        Value::Object(members) => {
            if members.get("type") == Some(&json!("object")) && members.contains_key("properties") {
                let others = members.entry("additionalProperties");
                others.or_insert(json!(false));
            }
            members.values_mut().for_each(|it| close(it, document));
        }
        Value::Array(items) => items.iter_mut().for_each(|it| close(it, document)),
        _ => {}
    }
}

/// One object with the fields of all: closed each for itself, none of them would fit.
fn merged(parts: &[Value], document: &Value) -> Value {
    let mut whole = json!({ "type": "object", "properties": {}, "required": [] });
    for part in parts {
        let part = match part["$ref"].as_str() {
            Some(reference) => document.pointer(reference.trim_start_matches('#')).unwrap(),
            None => part,
        };
        let part = match part["allOf"].as_array() {
            Some(parts) => &merged(parts, document),
            None => part,
        };
        let properties = part["properties"].as_object().cloned().unwrap_or_default();
        whole["properties"]
            .as_object_mut()
            .unwrap()
            .extend(properties);
        let required = part["required"].as_array().cloned().unwrap_or_default();
        whole["required"].as_array_mut().unwrap().extend(required);
    }
    whole
}
