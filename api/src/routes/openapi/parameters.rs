//! What a parameter that many routes have may be: said here once, by its name, for wherever it stands.

use utoipa::openapi::{
    KnownFormat, Object, ObjectBuilder, OpenApi, RefOr, SchemaFormat, Type,
    path::{Operation, ParameterIn, PathItem},
};

/// Says in the document what the parameters may be that many routes have.
pub fn restrict_parameters(mut document: OpenApi) -> OpenApi {
    for operation in document.paths.paths.values_mut().flat_map(operations) {
        for parameter in operation.parameters.iter_mut().flatten() {
            let RefOr::T(parameter) = parameter else {
                continue;
            };
            if let Some(schema) = schema(&parameter.parameter_in, &parameter.name) {
                parameter.schema = Some(schema.into());
            }
        }
    }
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let all = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.patch,
        &mut item.delete,
    ];
    all.into_iter().flatten()
}

fn schema(place: &ParameterIn, name: &str) -> Option<Object> {
    let text = || ObjectBuilder::new().schema_type(Type::String);
    let schema = match (place, name) {
        (ParameterIn::Path, "slug") => text().pattern(Some("^[a-z][a-z0-9-]{1,38}[a-z0-9]$")),
        (ParameterIn::Path, "key") => text().pattern(Some("^[a-z][a-z0-9_]{1,63}$")),
        (ParameterIn::Path, "id") => {
            text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        }
        (ParameterIn::Query, "cursor") => text().pattern(Some("^[A-Za-z0-9_-]+$")),
        (ParameterIn::Query, "wait") => text().pattern(Some("^[0-9]+s?$")).examples(["25s"]),
        (ParameterIn::Header, "Idempotency-Key") => {
            text().pattern(Some("^[!-~]+$")).max_length(Some(255))
        }
        // What makes no sense there is ignored, or is the version of nothing.
        (ParameterIn::Header, "If-Match" | "If-None-Match" | "Prefer" | "Last-Event-ID") => text(),
        _ => return None,
    };
    Some(schema.build())
}
