//! A body with every field wrong is answered with one 422 that names all of them, and nothing is stored.

mod table;

use std::collections::{BTreeMap, BTreeSet};

use bson::{Document, doc};
use dezky_shared::id::UserId;
use futures::TryStreamExt as _;
use http::Method;
use serde_json::Value;

use crate::{app::TestApp, everyone::Who};

/// Who sends which body to which route, and where it is wrong.
struct Row {
    who: Who,
    method: Method,
    route: &'static str,
    body: Value,
    wrong: &'static [&'static str],
}

#[tokio::test]
async fn all_wrong_values_are_named_at_once_and_nothing_is_stored() {
    let app = TestApp::with_everyone().await;
    let somebody = UserId::new().to_string();
    let before = everything(&app).await;

    let mut surprises = Vec::new();

    for row in table::rows() {
        let path = row
            .route
            .replace("{slug}", "demo")
            .replace("{domain}", "demo.test")
            .replace("{id}", &somebody)
            .replace("{key}", "new_billing_engine");
        let token = app.token(&row.who.token().unwrap());
        let call = app.call(row.method.clone(), &path).token(&token);
        let reply = call.json(&row.body).send().await;

        let errors = reply.body["errors"].as_array().cloned().unwrap_or_default();
        let named = errors.iter().filter_map(|error| error["pointer"].as_str());
        let named: BTreeSet<&str> = named.collect();
        let wrong: BTreeSet<&str> = row.wrong.iter().copied().collect();
        if reply.summary() != "422 validation_failed" || named != wrong {
            let what = format!("{} {}", row.method, row.route);
            surprises.push(format!("{what}: expected {wrong:?}, found {reply:#?}"));
        }
    }

    assert!(surprises.is_empty(), "{}", surprises.join("\n"));
    assert_eq!(everything(&app).await, before);
}

/// What names something is looked up instead: it is there or not.
const LOOKED_UP: [&str; 1] = ["POST /flags/evaluate /tenantSlug"];

#[tokio::test]
async fn the_table_has_every_field_that_can_have_a_wrong_value() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").send().await.body;
    let table = table::rows();
    let mut missing = BTreeSet::new();

    for (route, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
            let rows = table
                .iter()
                .filter(|row| row.method == method && row.route == route);
            let wrong: Vec<&str> = rows.flat_map(|row| row.wrong).copied().collect();
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            let mut fields = Vec::new();
            collect_fields(&document, body, String::new(), &mut fields);
            fields.retain(|field| !wrong.iter().any(|wrong| wrong.starts_with(field)));
            missing.extend(
                fields
                    .into_iter()
                    .map(|field| format!("{method} {route} {field}")),
            );
        }
    }

    assert_eq!(missing, LOOKED_UP.map(str::to_owned).into());
}

/// The fields of a body whose value can be wrong though its type is right.
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

/// All that is stored.
async fn everything(app: &TestApp) -> BTreeMap<String, Vec<Document>> {
    let database = app.state.store.database();
    let mut all = BTreeMap::new();
    for name in database.list_collection_names().await.unwrap() {
        let collection = app.collection(&name);
        let found = collection.find(doc! {}).sort(doc! { "_id": 1 }).await;
        all.insert(name, found.unwrap().try_collect().await.unwrap());
    }
    all
}
