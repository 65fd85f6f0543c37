//! Parameters of a request: each is taken once, and those left over are refused as unknown.

use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Parameters of a request.
#[derive(Debug, Clone, Default)]
pub(super) struct Params(Map<String, Value>);

impl Params {
    pub(super) fn new(given: Map<String, Value>) -> Self {
        Self(given)
    }

    /// A text. The empty text unsets the field, so it is null.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<Value>, Refusal> {
        self.0
            .remove(name)
            .map(|value| text_or_null(name, value))
            .transpose()
    }

    /// A text that is given and not empty.
    pub(super) fn filled(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.text(name)? {
            Some(Value::String(text)) => Ok(Some(text)),
            _ => Ok(None),
        }
    }

    /// A text that has to be given.
    pub(super) fn required(&mut self, name: &str) -> Result<String, Refusal> {
        let missing = || {
            Refusal::param(
                "parameter_missing",
                name,
                format!("Missing required param: {name}."),
            )
        };
        self.filled(name)?.ok_or_else(missing)
    }

    /// An integer.
    pub(super) fn integer(&mut self, name: &str) -> Result<Option<i64>, Refusal> {
        let invalid = || {
            Refusal::param(
                "parameter_invalid_integer",
                name,
                format!("Invalid integer: {name}"),
            )
        };
        let text = self.filled(name)?;
        text.map(|text| text.parse().map_err(|_| invalid()))
            .transpose()
    }

    /// An object of texts with the fields `allowed`.
    pub(super) fn object(
        &mut self,
        name: &str,
        allowed: &[&str],
    ) -> Result<Option<Map<String, Value>>, Refusal> {
        let Some(value) = self.0.remove(name) else {
            return Ok(None);
        };
        let Value::Object(given) = value else {
            return Err(invalid_object(name));
        };
        let mut fields = Map::new();
        for (field, value) in given {
            let full = format!("{name}[{field}]");
            if !allowed.contains(&field.as_str()) {
                return Err(unknown(&full));
            }
            fields.insert(field, text_or_null(&full, value)?);
        }
        Ok(Some(fields))
    }

    /// A list of texts.
    pub(super) fn list(&mut self, name: &str) -> Result<Option<Vec<String>>, Refusal> {
        let items = match self.0.remove(name) {
            None => return Ok(None),
            Some(Value::Object(items)) => items,
            Some(Value::String(text)) if text.is_empty() => return Ok(Some(Vec::new())),
            Some(_) => return Err(invalid_object(name)),
        };
        let text = |value: Value| match value {
            Value::String(text) => Ok(text),
            _ => Err(invalid_object(name)),
        };
        items
            .into_iter()
            .map(|(_, value)| text(value))
            .collect::<Result<_, _>>()
            .map(Some)
    }

    /// A list of objects.
    pub(super) fn nested(&mut self, name: &str) -> Result<Vec<Self>, Refusal> {
        let items = match self.0.remove(name) {
            None => return Ok(Vec::new()),
            Some(Value::Object(items)) => items,
            Some(_) => return Err(invalid_object(name)),
        };
        let object = |value: Value| match value {
            Value::Object(fields) => Ok(Self(fields)),
            _ => Err(invalid_object(name)),
        };
        items.into_iter().map(|(_, value)| object(value)).collect()
    }

    /// Merges `metadata` into that of an object: an empty value removes a key, an empty text removes all.
    pub(super) fn merge_metadata(&mut self, object: &mut Value) -> Result<(), Refusal> {
        const NAME: &str = "metadata";
        let given = match self.0.remove(NAME) {
            None => return Ok(()),
            Some(Value::String(text)) if text.is_empty() => {
                object[NAME] = Value::Object(Map::new());
                return Ok(());
            }
            Some(Value::Object(given)) => given,
            Some(_) => return Err(invalid_object(NAME)),
        };
        for (key, value) in given {
            match text_or_null(NAME, value)? {
                Value::Null => {
                    if let Some(metadata) = object[NAME].as_object_mut() {
                        metadata.remove(&key);
                    }
                }
                text => object[NAME][key.as_str()] = text,
            }
        }
        Ok(())
    }

    /// Refuses what was not taken.
    pub(super) fn finish(&self) -> Result<(), Refusal> {
        match self.0.keys().next() {
            Some(name) => Err(unknown(name)),
            None => Ok(()),
        }
    }
}

fn text_or_null(name: &str, value: Value) -> Result<Value, Refusal> {
    match value {
        Value::String(text) if text.is_empty() => Ok(Value::Null),
        Value::String(text) => Ok(Value::String(text)),
        _ => Err(Refusal::param(
            "parameter_invalid_string",
            name,
            format!("Invalid string: {name}"),
        )),
    }
}

fn invalid_object(name: &str) -> Refusal {
    Refusal {
        param: Some(name.into()),
        ..Refusal::invalid(format!("Invalid object: {name}"))
    }
}

fn unknown(name: &str) -> Refusal {
    Refusal::param(
        "parameter_unknown",
        name,
        format!("Received unknown parameter: {name}"),
    )
}
