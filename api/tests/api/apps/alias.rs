//! `/sso-apps`, the older name.

use serde_json::json;

use super::new;
use crate::app::TestApp;

#[tokio::test]
async fn the_older_name_has_the_same_routes_and_answers() {
    let app = TestApp::with_demo().await;
    let owner = app.owner();

    let created = owner.post("/tenants/demo/sso-apps", new("wiki")).await;
    let id = created.body["id"].as_str().unwrap();
    let older = owner.get(format!("/tenants/demo/sso-apps/{id}")).await;
    let newer = owner.get(format!("/tenants/demo/apps/{id}")).await;
    let list = owner.get("/tenants/demo/sso-apps").await;
    let unknown = owner.get("/tenants/demo/sso-apps?page=2").await;
    let rotated = owner
        .post_empty(format!("/tenants/demo/sso-apps/{id}/rotate-secret"))
        .await;
    let changed = owner
        .patch(
            format!("/tenants/demo/sso-apps/{id}"),
            json!({ "name": "x" }),
        )
        .await;
    let removed = owner.delete(format!("/tenants/demo/sso-apps/{id}")).await;

    assert_eq!(created.status, 202, "{created:?}");
    assert_eq!(older.body, newer.body);
    assert_eq!(list.items().len(), 1);
    assert_eq!(unknown.summary(), "400 invalid_request");
    assert!(rotated.body["clientSecret"].is_string());
    assert_eq!(changed.body["name"], "x");
    assert_eq!(removed.body["status"], "removing");
}

#[tokio::test]
async fn the_older_name_is_documented_as_deprecated() {
    let app = TestApp::start().await;
    let document = app.openapi().await;
    let paths = document["paths"].as_object().unwrap();

    let mut count = 0;
    for (path, item) in paths.iter().filter(|(path, _)| path.contains("/sso-apps")) {
        let name = path.replace("/sso-apps", "/apps");
        for (method, operation) in item.as_object().unwrap() {
            let current = &paths[&name][method];
            assert_eq!(operation["deprecated"], true, "{method} {path}");
            assert_eq!(current.get("deprecated"), None, "{method} {name}");
            assert_eq!(
                operation["responses"], current["responses"],
                "{method} {path}"
            );
            assert_eq!(
                operation["parameters"], current["parameters"],
                "{method} {path}"
            );
            count += 1;
        }
    }
    assert_eq!(count, 6);
}
