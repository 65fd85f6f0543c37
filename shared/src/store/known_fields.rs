//! Partial replace: writes all fields known to this build, and keeps fields added by a newer build, since both write
//! during a rolling deploy.

use bson::{Bson, Document, doc};
use serde::{
    Deserializer, Serialize,
    de::{DeserializeOwned, Visitor, value},
    forward_to_deserialize_any,
};

use super::StoreError;

/// Update that sets every known field to its value in `value`, and leaves other fields unchanged.
pub(super) fn set_known_fields<T: Serialize + DeserializeOwned>(
    value: &T,
) -> Result<Document, StoreError> {
    let set = bson::serialize_to_document(value)?;
    let missing = fields::<T>()
        .iter()
        .filter(|field| !set.contains_key(field));
    let unset: Document = missing
        .map(|field| ((*field).to_owned(), Bson::from("")))
        .collect();
    Ok(doc! { "$set": set, "$unset": unset })
}

/// Stored names of all fields of a struct, including optional ones that are omitted when empty.
fn fields<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &'static [&'static str] = &[];
    // The deserializer only records the field names, and fails.
    let _ = T::deserialize(FieldNames(&mut fields));
    fields
}

/// Deserializer that records the requested field names.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = value::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(nothing_here("fields only"))
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Self::Error> {
        Err(nothing_here("not a struct"))
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn nothing_here(why: &str) -> value::Error {
    serde::de::Error::custom(why)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Thing {
        #[serde(rename = "_id")]
        id: i32,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_colour: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        best_shape: Option<String>,
    }

    #[test]
    fn missing_known_fields_are_removed_and_unknown_fields_are_kept() {
        let thing = Thing {
            id: 7,
            best_colour: Some("red".to_owned()),
            best_shape: None,
        };

        let update = set_known_fields(&thing).unwrap();

        let expected = doc! {
            "$set": { "_id": 7, "bestColour": "red" },
            "$unset": { "bestShape": "" },
        };
        assert_eq!(update, expected);
    }
}
