//! Fields that are stored as they were sent, after a check of their types.

use serde_json::{Map, Value};

use crate::authentik::wire::Body;

/// Copies these fields of the body. Texts are trimmed; other values are stored as they are.
pub(super) fn copy(body: &mut Body, names: &[&str], into: &mut Map<String, Value>) {
    for name in names {
        match body.members().get(*name).cloned() {
            None => {}
            Some(Value::String(text)) => {
                into.insert((*name).to_owned(), text.trim().into());
            }
            Some(value) => {
                into.insert((*name).to_owned(), value);
            }
        }
    }
}

/// A text that must be one of `known`.
pub(super) fn choice(body: &mut Body, name: &str, known: &[&str], into: &mut Map<String, Value>) {
    let Some(text) = body.text(name) else { return };
    if known.contains(&text.as_str()) {
        into.insert(name.to_owned(), text.into());
    } else {
        body.error::<()>(name, &format!("\"{text}\" is not a valid choice."));
    }
}
