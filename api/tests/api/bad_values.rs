//! A body in which every field is invalid returns one 422 that lists all fields, and nothing is stored.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use dezky_shared::id::UserId;
use futures::TryStreamExt as _;
use http::Method;
use serde_json::Value;

use crate::{app::TestApp, personas::Persona};

/// Request of a persona, and the pointers of its invalid fields.
struct Row {
    persona: Persona,
    method: Method,
    route: &'static str,
    body: Value,
    invalid: &'static [&'static str],
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_personas().await;
    let user = UserId::new().to_string();
    let before = all_documents(&app).await;

    let mut mismatches = Vec::new();

    for row in table::rows() {
        let path = row
            .route
            .replace("{slug}", "demo")
            .replace("{domain}", "demo.test")
            .replace("{id}", &user)
            .replace("queues/{name}", "queues/maintenance")
            .replace("upstreams/{name}", "upstreams/authentik")
            .replace("{plan}", "starter")
            .replace("{key}", "new_billing_engine");
        let client = app.client(row.persona);
        let reply = client
            .request(row.method.clone(), &path)
            .json(&row.body)
            .await;

        let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
        let named = errors.iter().filter_map(|error| error["pointer"].as_str());
        let named: BTreeSet<&str> = named.collect();
        let invalid: BTreeSet<&str> = row.invalid.iter().copied().collect();
        if reply.summary() != "422 validation_failed" || named != invalid {
            let what = format!("{} {}", row.method, row.route);
            mismatches.push(format!("{what}: expected {invalid:?}, found {reply:#?}"));
        }
    }

    assert!(mismatches.is_empty(), "{}", mismatches.join("\n"));
    assert_eq!(all_documents(&app).await, before);
}

/// Field that is looked up instead of validated.
const LOOKED_UP: [&str; 1] = ["POST /flags/evaluate /tenantSlug"];

#[tokio::test]
async fn the_table_covers_every_validated_field() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let table = table::rows();
    let mut missing = BTreeSet::new();

    for (route, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let rows = table
                .iter()
                .filter(|row| row.method == method && row.route == route);
            let invalid: Vec<&str> = rows.flat_map(|row| row.invalid).copied().collect();
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let mut fields = Vec::new();
            collect_fields(&document, body, String::new(), &mut fields);
            fields.retain(|field| !invalid.iter().any(|invalid| invalid.starts_with(field)));
            missing.extend(
                fields
                    .into_iter()
                    .map(|field| format!("{method} {route} {field}")),
            );
        }
    }

    assert_eq!(missing, LOOKED_UP.map(str::to_owned).into());
}

/// Fields of a body whose value can be invalid although its type is correct.
fn collect_fields(document: &Value, schema: &Value, pointer: String, fields: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let place = reference.strip_prefix('#').unwrap();
        let schema = document.pointer(place).unwrap();
        return collect_fields(document, schema, pointer, fields);
    }
    if let Some(alternatives) = schema["oneOf"].as_array() {
        for schema in alternatives {
            collect_fields(document, schema, pointer.clone(), fields);
        }
        return;
    }
    if let Some(properties) = schema["properties"].as_object() {
        for (name, schema) in properties {
            collect_fields(document, schema, format!("{pointer}/{name}"), fields);
        }
        return;
    }
    let is = |name: &str| match &schema["type"] {
        Value::Array(types) => types.contains(&name.into()),
        other => other == name,
    };
    let has_a_limit = !schema["maximum"].is_null();
    if is("string") || is("array") || is("object") || has_a_limit {
        fields.push(pointer);
    }
}

/// All stored documents by collection.
async fn all_documents(app: &TestApp) -> BTreeMap<String, Vec<Document>> {
    let database = app.state.store.database();
    let mut all = BTreeMap::new();
    for name in database.list_collection_names().await.unwrap() {
        let collection = app.collection(&name);
        let found = collection.find(doc! {}).sort(doc! { "_id": 1 }).await;
        all.insert(name, found.unwrap().try_collect().await.unwrap());
    }
    all
}
