//! The document, held against the router that is served.

use http::Method;
use serde_json::Value;

use crate::app::TestApp;

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

#[tokio::test]
async fn the_router_serves_exactly_the_documented_methods() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").send().await.body;
    let paths = document["paths"].as_object().unwrap();

    for (path, item) in paths {
        let concrete = path
            .replace("{slug}", "demo")
            .replace("{id}", "01990000-0000-7000-8000-000000000000");
        for method in METHODS {
            let reply = app.call(method.clone(), &concrete).send().await;

            let is_documented = item.get(method.as_str().to_lowercase()).is_some();
            assert_eq!(reply.status != 405, is_documented, "{method} {path}");
            assert_ne!(reply.status, 404, "{method} {path}");
        }
    }
    assert_eq!(document["openapi"], "3.1.0");
}

#[tokio::test]
async fn every_operation_is_described_and_says_what_it_answers() {
    let app = TestApp::start().await;
    let document = app.get("/openapi.json").send().await.body;

    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let what = format!("{method} {path}");
            assert!(operation["summary"].is_string(), "{what}");
            let is_public = path == "/healthz" || path == "/readyz";
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
                    .any(|status| status.starts_with('2')),
                "{what}"
            );
        }
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
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
    let document = app.get("/openapi.json").send().await.body;
    let mut found = Vec::new();

    references(&document, &mut found);

    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[tokio::test]
async fn there_is_a_page_for_people() {
    let app = TestApp::start().await;

    let reply = app.get("/docs").send().await;

    assert_eq!(reply.status, 200);
    assert!(
        reply
            .header("content-type")
            .unwrap()
            .starts_with("text/html")
    );
}
