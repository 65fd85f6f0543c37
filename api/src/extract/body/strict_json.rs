//! Strict JSON: objects with known fields only, each once and of the right type.
//!
//! The errors of serde are rewritten, since they name internal types and echo the input.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::Value;

use crate::error::FieldError;

/// A struct that is read from a JSON object only. serde also accepts an array of field values.
#[derive(Debug, Default)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Parses a body, or returns the first error with its location.
pub(super) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FieldError> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let Object(body) =
        serde_path_to_error::deserialize(&mut reader).map_err(|error| field_error(&error))?;
    reader
        .end()
        .map_err(|error| FieldError::at("", "invalid_json", error.to_string()))?;
    Ok(body)
}

/// Finds the first NUL in a string or a field name.
pub(super) fn find_nul(bytes: &[u8]) -> Option<FieldError> {
    // The only way to write NUL in JSON. A preceding backslash may escape this one.
    let escape = br"\u0000";
    if !bytes.windows(escape.len()).any(|window| window == escape) {
        return None;
    }
    let pointer = nul_in(&serde_json::from_slice(bytes).ok()?)?;
    Some(FieldError::at(pointer, "nul", "NUL is not allowed."))
}

/// Pointer to the first NUL. For one in a field name, pointer to its object.
fn nul_in(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => text.contains('\0').then(String::new),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| Some(format!("/{index}{}", nul_in(item)?))),
        Value::Object(fields) => fields.iter().find_map(|(name, field)| {
            if name.contains('\0') {
                return Some(String::new());
            }
            Some(format!("/{}{}", escaped(name), nul_in(field)?))
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    let inner = error.inner();
    let text = inner.to_string();
    let mut pointer = String::new();
    for segment in error.path() {
        use serde_path_to_error::Segment;
        match segment {
            Segment::Map { key } => push(&mut pointer, key),
            Segment::Seq { index } => push(&mut pointer, &index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    if !inner.is_data() {
        return FieldError::at(pointer, "invalid_json", text);
    }
    let (code, message) = if let Some(field) = quoted_after(&text, "unknown field `") {
        if !pointer.ends_with(&escaped(field)) {
            push(&mut pointer, field);
        }
        ("unknown_field", "Unknown field.")
    } else if let Some(field) = quoted_after(&text, "missing field `") {
        push(&mut pointer, field);
        ("missing_field", "This field is required.")
    } else if let Some(field) = quoted_after(&text, "duplicate field `") {
        push(&mut pointer, field);
        ("duplicate_field", "Duplicate field.")
    } else {
        ("wrong_type", expected(&text))
    };
    FieldError::at(pointer, code, message)
}

/// The message for a wrong type, from the type that serde expected.
fn expected(text: &str) -> &'static str {
    let expected = text
        .rsplit_once(", expected ")
        .map(|(_, expected)| expected);
    let is = |kind: &str| expected.is_some_and(|expected| expected.starts_with(kind));
    if is("a string") {
        "Must be a string."
    } else if is("a boolean") {
        "Must be true or false."
    } else if is("a sequence") {
        "Must be an array."
    } else if is("an object") || is("a map") {
        "Must be an object."
    } else {
        "Wrong type."
    }
}

fn quoted_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let (name, _) = text.strip_prefix(before)?.split_once('`')?;
    Some(name)
}

fn push(pointer: &mut String, segment: &str) {
    pointer.push('/');
    pointer.push_str(&escaped(segment));
}

/// RFC 6901, section 3.
fn escaped(segment: &str) -> String {
    segment.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_nul_is_found_and_an_escaped_backslash_is_ignored() {
        let at = |body: &str| find_nul(body.as_bytes()).and_then(|error| error.pointer);

        assert_eq!(at(r#"{"a":"b"}"#), None);
        assert_eq!(at(r#"{"a":"\\u0000"}"#), None);
        assert_eq!(
            at(r#"{"a":["b",{"c/d":"\u0000"}],"e":"\u0000"}"#).as_deref(),
            Some("/a/1/c~1d")
        );
        assert_eq!(at(r#"{"a":{"\u0000":1}}"#).as_deref(), Some("/a"));
    }
}
