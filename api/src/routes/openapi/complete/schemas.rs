//! Schemas: pages, nullable fields, events, and the texts of problem codes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{objects, reference};
use crate::error::{FIELD_CODES, ProblemCode};

/// Prefix of a page's name in the derived document.
const PAGE: &str = "PageOf_";
/// Path of a schema in a reference.
const SCHEMAS: &str = "#/components/schemas/";
/// Fields that are null in some responses and missing in others: one-time secrets, which a replayed response has as null,
/// and values of reports, which are in the field of their unit and null without data.
const NULLABLE: [(&str, &str); 7] = [
    ("App", "clientSecret"),
    ("ReportCell", "value"),
    ("ReportCell", "valueMinor"),
    ("ReportPoint", "value"),
    ("ReportPoint", "valueMinor"),
    ("TenantUser", "oneTimePassword"),
    ("TenantUser", "passwordScope"),
];
/// Resources with a stream of events: the name of the schema of an event, and its events with their resources.
const STREAMED: [(&str, &[(&str, &str)]); 2] = [
    ("JobEvent", &[("job", "Job")]),
    (
        "TenantEvent",
        &[
            ("tenant", "Tenant"),
            ("member", "TenantUser"),
            ("app", "App"),
            ("domain", "Domain"),
            ("invoice", "Invoice"),
        ],
    ),
];

/// Completes the schemas.
pub(super) fn complete(document: &mut Value) {
    let renamed = rename_pages(&mut document["components"]["schemas"]);
    rename_references(document, &renamed);
    let accepted = schemas_of_requests(document);
    for (name, schema) in objects(document.pointer_mut("/components/schemas")) {
        if !accepted.contains(name) {
            forbid_null_in_optional_fields(name, schema);
        }
    }
    forbid_null_in_inputs(document);
    let schemas = &mut document["components"]["schemas"];
    add_texts(&mut schemas["ProblemCode"]);
    add_field_codes(schemas);
    for (name, events) in STREAMED {
        schemas[name] = events_schema(events);
    }
}

/// Renames `PageOf_Job` to `JobPage`, with its items by reference. Returns the new names of references.
fn rename_pages(schemas: &mut Value) -> BTreeMap<String, String> {
    let mut renamed = BTreeMap::new();
    let Value::Object(schemas) = schemas else {
        return renamed;
    };
    let pages: Vec<String> = schemas
        .keys()
        .filter(|name| name.starts_with(PAGE))
        .cloned()
        .collect();
    for name in pages {
        let (Some(mut page), Some(item)) = (schemas.remove(&name), name.strip_prefix(PAGE)) else {
            continue;
        };
        let new_name = format!("{item}Page");
        page["properties"]["items"]["items"] = reference("schemas", item);
        renamed.insert(format!("{SCHEMAS}{name}"), format!("{SCHEMAS}{new_name}"));
        schemas.insert(new_name, page);
    }
    renamed
}

fn rename_references(value: &mut Value, renamed: &BTreeMap<String, String>) {
    if let Some(new_name) = value["$ref"].as_str().and_then(|name| renamed.get(name)) {
        value["$ref"] = new_name.clone().into();
    }
    for_each_child(value, |child| rename_references(child, renamed));
}

fn for_each_child(value: &mut Value, mut apply: impl FnMut(&mut Value)) {
    match value {
        Value::Object(fields) => fields.values_mut().for_each(apply),
        Value::Array(items) => items.iter_mut().for_each(&mut apply),
        _ => {}
    }
}

/// Names of the schemas that request bodies refer to, directly or through others.
fn schemas_of_requests(document: &mut Value) -> BTreeSet<String> {
    let mut to_visit = Vec::new();
    for (_, item) in objects(document.get_mut("paths")) {
        for (_, operation) in objects(Some(item)) {
            references(&operation["requestBody"], &mut to_visit);
        }
    }
    let mut found = BTreeSet::new();
    while let Some(name) = to_visit.pop() {
        references(&document["components"]["schemas"][&name], &mut to_visit);
        found.insert(name);
        to_visit.retain(|name| !found.contains(name));
    }
    found
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            let name = fields.get("$ref").and_then(Value::as_str);
            found.extend(
                name.and_then(|name| name.strip_prefix(SCHEMAS))
                    .map(str::to_owned),
            );
            fields.values().for_each(|field| references(field, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

/// An optional field of a response is missing, never null, except for [`NULLABLE`].
fn forbid_null_in_optional_fields(of: &str, schema: &mut Value) {
    let required: BTreeSet<String> =
        serde_json::from_value(schema["required"].clone()).unwrap_or_default();
    for (name, field) in objects(schema.get_mut("properties")) {
        if !required.contains(name) && !NULLABLE.contains(&(of, name.as_str())) {
            forbid_null(field);
        }
    }
    let parts = schema.get_mut("allOf").and_then(Value::as_array_mut);
    parts
        .into_iter()
        .flatten()
        .for_each(|part| forbid_null_in_optional_fields(of, part));
}

/// Parameters and bodies may be missing, which is not null.
fn forbid_null_in_inputs(document: &mut Value) {
    for (_, item) in objects(document.get_mut("paths")) {
        for (_, operation) in objects(Some(item)) {
            let body = operation.pointer_mut("/requestBody/content/application~1json/schema");
            body.into_iter().for_each(forbid_null);
            let parameters = operation
                .get_mut("parameters")
                .and_then(Value::as_array_mut);
            for parameter in parameters.into_iter().flatten() {
                forbid_null(&mut parameter["schema"]);
            }
        }
    }
}

/// Removes null from the alternatives of a schema.
fn forbid_null(schema: &mut Value) {
    let null = json!({ "type": "null" });
    if let Some(alternatives) = schema["oneOf"].as_array()
        && alternatives.contains(&null)
    {
        let mut others = alternatives
            .iter()
            .filter(|alternative| **alternative != null);
        let other = others.next().cloned().unwrap_or_default();
        *schema = other;
    } else if let Some(types) = schema["type"].as_array() {
        let mut others = types.iter().filter(|kind| *kind != "null");
        let other = others.next().cloned().unwrap_or_default();
        schema["type"] = other;
    }
}

/// Adds the title of every problem code, in the order of the codes.
fn add_texts(schema: &mut Value) {
    let titles: Vec<&str> = ProblemCode::ALL.iter().map(|code| code.title()).collect();
    schema["x-enum-descriptions"] = titles.into();
}

/// Makes the codes of field errors a schema of their own.
fn add_field_codes(schemas: &mut Value) {
    let description = "Stable code of a field error.";
    schemas["FieldCode"] =
        json!({ "type": "string", "description": description, "enum": FIELD_CODES });
    schemas["FieldError"]["properties"]["code"] = reference("schemas", "FieldCode");
}

/// The events of a stream, each with a resource as its data.
fn events_schema(events: &[(&str, &str)]) -> Value {
    let schemas = events.iter().map(|(event, resource)| {
        let mut data = reference("schemas", resource);
        data["description"] = "The resource, as GET returns it.".into();
        event_schema(event, data)
    });
    let mut schemas: Vec<Value> = schemas.collect();
    match schemas.pop() {
        Some(only) if schemas.is_empty() => only,
        last => {
            schemas.extend(last);
            schemas.push(event_schema("overflow", overflow()));
            json!({ "oneOf": schemas, "description": "An event of the stream." })
        }
    }
}

/// Data of an event about more resources than are sent.
fn overflow() -> Value {
    let kinds = json!({
        "type": "string",
        "enum": ["member", "app", "domain", "invoice"],
        "description": "Kind of the resources whose list should be read again.",
    });
    json!({
        "type": "object",
        "required": ["parts"],
        "properties": { "parts": kinds },
    })
}

/// An event, as its stream sends it.
fn event_schema(event: &str, data: Value) -> Value {
    let mut properties = Map::new();
    let mut field = |name: &str, schema: Value| properties.insert(name.to_owned(), schema);
    field(
        "event",
        json!({ "type": "string", "enum": [event], "description": "Name of the event." }),
    );
    field(
        "id",
        json!({ "type": "string", "description": "Position in the stream, for `Last-Event-ID`." }),
    );
    field("data", data);
    json!({
        "type": "object",
        "description": format!("Event `{event}` of a stream."),
        "required": ["event", "id", "data"],
        "properties": properties,
    })
}
