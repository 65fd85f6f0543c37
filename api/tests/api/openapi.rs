//! OpenAPI document, compared with the router.

use std::collections::BTreeSet;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Map, Value, json};

use crate::app::{self, TestApp};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];
/// Endings of the names of request bodies, after the noun of the resource.
const BODIES: [&str; 8] = [
    "Create",
    "Evaluation",
    "Patch",
    "Payment",
    "Reconcile",
    "Set",
    "Update",
    "Void",
];

#[tokio::test]
async fn the_router_serves_exactly_the_documented_methods() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let paths = document["paths"].as_object().unwrap();

    for (path, item) in paths {
        let concrete = path
            .replace("{slug}", "demo")
            .replace("{key}", "beta_search")
            .replace("{name}", app::name_in(path))
            .replace("{id}", "01990000-0000-7000-8000-000000000000");
        for method in METHODS {
            let reply = app.anonymous().request(method.clone(), &concrete).await;

            let is_documented = item.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(reply.status != 405, is_documented, "{method} {path}");
            assert_ne!(reply.status, 404, "{method} {path}");
        }
    }
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn every_operation_documents_its_responses() {
    let app = TestApp::start().await;
    let document = app.openapi().await;

    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what}");
            let is_public = ["/healthz", "/readyz", "/webhooks/stripe"].contains(&path.as_str());
            assert_eq!(
                operation["responses"]["default"].is_null(),
                is_public,
                "{what}"
            );
            assert!(
                operation["responses"]
                    .as_object()
                    .unwrap()
                    .keys()
                    .any(|status| status.starts_with(['2', '3'])),
                "{what}"
            );
        }
    }
}

/// Every operation with its method and path.
fn operations(document: &Value) -> Vec<(Method, String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let item = item.as_object().unwrap().iter();
        item.map(move |(method, operation)| {
            let method = method.to_uppercase().parse().unwrap();
            (method, path.clone(), operation)
        })
    });
    operations.collect()
}

/// Names of an operation's parameters in `place`.
fn parameters<'a>(operation: &'a Value, place: &str) -> Vec<&'a str> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    parameters
        .filter(|parameter| parameter["in"] == place)
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn every_operation_has_a_unique_descriptive_id() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let mut seen = BTreeSet::new();

    for (method, path, operation) in operations(&document) {
        let id = operation["operationId"].as_str().unwrap();

        assert!(seen.insert(id), "{method} {path}: {id} is not unique");
        assert!(id.contains(char::is_uppercase), "{method} {path}: {id}");
    }
}

#[test]
fn the_schema_of_a_body_is_named_by_the_resource_and_then_the_change() {
    let document = dezky_api::document();
    let mut checked = 0;

    for (method, path, operation) in operations(&document) {
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let Some(name) = body.as_str().and_then(|name| name.rsplit('/').next()) else {
            continue;
        };
        let is_named = BODIES.iter().any(|change| name.ends_with(*change));
        assert!(is_named, "{method} {path}: {name}");
        checked += 1;
    }
    assert!(checked > 40, "{checked}");
}

#[tokio::test]
async fn every_documented_query_parameter_is_accepted() {
    let app = TestApp::with_demo().await;
    let document = app.openapi().await;
    let mut checked = 0;

    for (method, path, operation) in operations(&document) {
        let concrete = path
            .replace("{slug}", "demo")
            .replace("{key}", "beta_search")
            .replace("{name}", app::name_in(&path))
            .replace("{id}", "01990000-0000-7000-8000-000000000000");
        for name in parameters(operation, "query") {
            let reply = app
                .operator()
                .request(method.clone(), format!("{concrete}?{name}=x"))
                .await;

            let code = &reply.body["errors"][0]["code"];
            assert_ne!(code, "unknown_parameter", "{method} {path}?{name}");
            checked += 1;
        }
    }
    assert!(checked > 10, "{checked}");
}

#[tokio::test]
async fn error_responses_are_documented_with_their_content_type() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let sent = app.anonymous().get("/tenants").await;

    let reference = document["paths"]["/tenants"]["get"]["responses"]["default"]["$ref"].clone();
    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
    let content = document.pointer(pointer).unwrap()["content"].as_object();

    let documented: Vec<&str> = content.unwrap().keys().map(String::as_str).collect();
    assert_eq!(documented, [sent.header("content-type").unwrap()]);
    for (method, path, operation) in operations(&document) {
        let default = &operation["responses"]["default"];
        assert!(
            default.is_null() || default["$ref"] == reference,
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn every_waitable_operation_returns_200_or_202() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let mut checked = 0;

    for (method, path, operation) in operations(&document) {
        // A read answers with 200 whether or not its job has finished.
        if method != Method::GET && parameters(operation, "header").contains(&"Prefer") {
            for status in ["200", "202"] {
                let body = &operation["responses"][status]["content"]["application/json"];
                assert!(body.is_object(), "{status} {method} {path}");
            }
            checked += 1;
        }
        let returns_304 = !operation["responses"]["304"].is_null();
        let is_conditional = parameters(operation, "header").contains(&"If-None-Match");
        assert_eq!(returns_304, is_conditional, "{method} {path}");
    }
    assert_eq!(checked, 41);
}

#[tokio::test]
async fn patch_schemas_document_every_field_and_its_nullability() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let fields = |path: &str| {
        let body = &document["paths"][path]["patch"]["requestBody"]["content"]["application/json"];
        let reference = body["schema"]["$ref"].as_str().unwrap();
        let schema = document
            .pointer(reference.strip_prefix('#').unwrap())
            .unwrap();
        assert!(schema["required"].is_null(), "{path}");
        let properties = schema["properties"].as_object().unwrap().iter();
        properties
            .map(|(name, property)| {
                let reference = property["$ref"]
                    .as_str()
                    .or(property["oneOf"][0]["$ref"].as_str())
                    // After null.
                    .or(property["oneOf"][1]["$ref"].as_str());
                let name_of = |reference: &str| reference.rsplit('/').next().unwrap().into();
                let kind = reference.map_or_else(|| property["type"].clone(), name_of);
                (name.clone(), kind)
            })
            .collect::<Map<_, _>>()
    };

    let tenant = fields("/tenants/{slug}");
    let user = fields("/users/{id}");

    assert_eq!(
        Value::from(tenant),
        json!({
            "name": "string", "plan": "PlanName", "domains": "array", "industry": ["string", "null"],
            "brandColor": ["string", "null"], "partnerId": ["string", "null"],
        })
    );
    assert_eq!(
        Value::from(user),
        json!({
            "email": "string", "name": "string", "tenantRoles": "object", "platformAdmin": "boolean",
            "platformRole": "PlatformRole",
            "partnerId": ["string", "null"], "partnerRole": "PartnerRole",
        })
    );
}

#[tokio::test]
async fn every_page_has_a_next_cursor_field() {
    let app = TestApp::start().await;
    let document = app.openapi().await;

    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        if name.ends_with("Page") {
            assert!(
                schema["properties"]["items"]["items"]["$ref"].is_string(),
                "{name}"
            );
            assert_eq!(schema["required"], json!(["items", "nextCursor"]), "{name}");
            let cursor = &schema["properties"]["nextCursor"]["type"];
            assert_eq!(*cursor, json!(["string", "null"]), "{name}");
        }
    }
}

#[tokio::test]
async fn everything_has_a_description() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let mut tags = document["tags"].as_array().unwrap().iter();
    assert!(tags.all(|tag| tag["description"].is_string()));
    let tags: BTreeSet<&str> = document["tags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tag| tag["name"].as_str().unwrap())
        .collect();

    for (method, path, operation) in operations(&document) {
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = &parameter["name"];
            assert!(
                parameter["description"].is_string(),
                "{method} {path}: {name}"
            );
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let is_described = response["description"].is_string() || response["$ref"].is_string();
            assert!(is_described, "{method} {path}: {status}");
        }
        let tag = operation["tags"][0].as_str().unwrap();
        assert!(
            tags.contains(tag),
            "{method} {path}: {tag} has no description"
        );
    }
    for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
        assert!(schema["description"].is_string(), "{name}");
    }
}

#[tokio::test]
async fn closed_sets_are_enumerated() {
    fn patterns<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("pattern").and_then(Value::as_str));
                fields.values().for_each(|field| patterns(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| patterns(item, found)),
            _ => {}
        }
    }
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let mut found = Vec::new();

    patterns(&document, &mut found);

    assert!(!found.is_empty());
    for pattern in found {
        let words = pattern.trim_start_matches('^').trim_end_matches('$');
        let is_set = words
            .chars()
            .all(|c| c.is_ascii_alphabetic() || "()|_-".contains(c));
        assert!(!is_set, "{pattern} should be an enum");
    }
}

#[tokio::test]
async fn every_reference_resolves_and_every_schema_is_used() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let mut found = Vec::new();

    references(&document, &mut found);

    assert!(!found.is_empty());
    for reference in &found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
    for name in document["components"]["schemas"]
        .as_object()
        .unwrap()
        .keys()
    {
        let reference = format!("#/components/schemas/{name}");
        assert!(found.contains(&reference.as_str()), "{name} is not used");
    }
}

#[tokio::test]
async fn the_documentation_page_is_served() {
    let app = TestApp::start().await;

    let reply = app.anonymous().get("/docs").await;

    assert_eq!(reply.status, 200);
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
}

#[tokio::test]
async fn the_document_and_its_page_are_cached_by_etag_and_load_nothing_from_elsewhere() {
    let app = TestApp::start().await;

    for path in ["/openapi.json", "/docs"] {
        let first = app.anonymous().get(path).await;
        let again = app.anonymous().get(path).if_none_match(first.etag()).await;

        assert_eq!(first.status, 200, "{path}");
        assert_eq!(again.status, 304, "{path}");
        assert_eq!(again.header("etag"), Some(first.etag()));
        assert_eq!(first.header("cache-control"), Some("no-cache"));
        let policy = first.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'"), "{policy}");
    }
    let page = app.anonymous().get("/docs").open().await.into_body();
    let page = page.collect().await.unwrap().to_bytes();
    let page = str::from_utf8(&page).unwrap();
    for (_, path, operation) in operations(&app.openapi().await) {
        let id = operation["operationId"].as_str().unwrap();
        assert!(page.contains(&format!("id=\"{id}\"")), "{path}");
    }
    for foreign in ["<script", "<link", "<img", "src=", "href=\"http", "url("] {
        assert!(!page.contains(foreign), "{foreign}");
    }
}
