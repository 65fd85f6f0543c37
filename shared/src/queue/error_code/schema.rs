//! OpenAPI schemas of error codes and classes. Derived ones would describe the variant of a newer build as an object.

use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Type, extensions::ExtensionsBuilder, schema::Schema},
};

use super::{ErrorClass, ErrorCode};

impl PartialSchema for ErrorClass {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Class of an error: the party that has to act."))
            .enum_values(Some(Self::ALL.map(Self::name)))
            .into()
    }
}

impl ToSchema for ErrorClass {}

impl PartialSchema for ErrorCode {
    fn schema() -> RefOr<Schema> {
        let names = Self::ALL.map(|code| serde_json::to_value(code).unwrap_or_default());
        let texts: Vec<Value> = Self::ALL
            .map(|code| code.customer_text(None).into())
            .to_vec();
        let extensions = ExtensionsBuilder::new().add("x-enum-descriptions", texts);
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Stable code of a failure. `x-enum-descriptions` has the message for customers.",
            ))
            .enum_values(Some(names))
            .extensions(Some(extensions.build()))
            .into()
    }
}

impl ToSchema for ErrorCode {}
