//! Parameters and responses that all routes share: path parameters, request headers and the problem response.

use http::Method;
use utoipa::openapi::{
    KnownFormat, Object, ObjectBuilder, OpenApi, Ref, RefOr, Required, SchemaFormat, Type,
    path::{Operation, Parameter, ParameterBuilder, ParameterIn},
};

use super::operations;

/// POST operations that write nothing.
const READ_ONLY: [&str; 1] = ["evaluateFlags"];
/// Operations that respond with 202 and do not wait for the outcome.
const NEVER_WAIT: [&str; 2] = ["createJobOperation", "cancelJob"];
/// POST operations on a versioned resource, which `If-Match` guards as it guards an update.
const CONDITIONAL_ACTIONS: [&str; 7] = [
    "reconcileTenant",
    "suspendTenant",
    "resumeTenant",
    "restoreTenant",
    "suspendPartnerTenant",
    "resumePartnerTenant",
    "recheckDomain",
];

/// Adds to every operation the parameters and responses that follow from its path, its method and its other responses.
pub fn complete(mut document: OpenApi) -> OpenApi {
    for (path, item) in &mut document.paths.paths {
        for (method, operation) in operations(item) {
            add_path_parameters(path, operation);
            add_headers(&method, operation);
            restrict_parameters(operation);
            // Health checks are public and define their error responses.
            if operation.security.is_none() {
                let responses = &mut operation.responses.responses;
                responses.insert(
                    "default".to_owned(),
                    Ref::from_response_name("Problem").into(),
                );
            }
        }
    }
    document
}

fn add_path_parameters(path: &str, operation: &mut Operation) {
    let parameters = operation.parameters.get_or_insert_default();
    let names = path
        .split('/')
        .filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let missing: Vec<_> = names
        .filter(|name| !parameters.iter().any(|it| is(it, &ParameterIn::Path, name)))
        .map(|name| parameter(ParameterIn::Path, name))
        .collect();
    parameters.splice(0..0, missing);
    if parameters.is_empty() {
        operation.parameters = None;
    }
}

fn add_headers(method: &Method, operation: &mut Operation) {
    let id = operation.operation_id.as_deref().unwrap_or_default();
    let has_response = |status| operation.responses.responses.contains_key(status);
    let mut names = Vec::new();
    if *method == Method::GET {
        if has_response("304") {
            names.push("If-None-Match");
        }
    } else if !READ_ONLY.contains(&id) {
        names.push("Idempotency-Key");
        if *method != Method::POST || CONDITIONAL_ACTIONS.contains(&id) {
            names.push("If-Match");
        }
        if has_response("200") && has_response("202") && !NEVER_WAIT.contains(&id) {
            names.push("Prefer");
        }
    }
    if !names.is_empty() {
        let headers = names
            .into_iter()
            .map(|name| parameter(ParameterIn::Header, name));
        operation.parameters.get_or_insert_default().extend(headers);
    }
}

fn parameter(place: ParameterIn, name: &str) -> RefOr<Parameter> {
    let required = match place {
        ParameterIn::Path => Required::True,
        _ => Required::False,
    };
    let parameter = ParameterBuilder::new()
        .name(name)
        .parameter_in(place)
        .required(required)
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)));
    parameter.build().into()
}

fn is(parameter: &RefOr<Parameter>, place: &ParameterIn, name: &str) -> bool {
    matches!(parameter, RefOr::T(it) if it.parameter_in == *place && it.name == name)
}

/// Replaces the schemas of well-known parameters.
fn restrict_parameters(operation: &mut Operation) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(parameter) = parameter
            && let Some(schema) = schema(&parameter.parameter_in, &parameter.name)
        {
            parameter.schema = Some(schema.into());
        }
    }
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
        // Any text: malformed values are ignored, or match no version.
        (ParameterIn::Header, "If-Match" | "If-None-Match" | "Prefer" | "Last-Event-ID") => text(),
        _ => return None,
    };
    Some(schema.build())
}
