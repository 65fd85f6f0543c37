//! Life cycle of a tenant through the api.

use reqwest::Method;
use serde_json::json;

use crate::stack::Stack;

#[tokio::test]
async fn a_tenant_is_created_suspended_resumed_and_deleted() {
    let stack = Stack::start().await;

    stack.create("acme").await;
    let active = stack.until_status("acme", "active").await;
    stack.assert_one_of_everything("acme");
    assert_eq!(
        active["provisioningStatus"],
        json!({ "authentik": "ok", "stalwart": "ok", "ocis": "ok" })
    );

    stack.ask(Method::POST, "/tenants/acme/suspend", None).await;
    stack
        .until("acme", |tenant| {
            tenant["status"] == "suspended" && tenant["provisioningStatus"]["ocis"] == "ok"
        })
        .await;
    assert!(stack.spaces("acme")[0].trashed);

    stack.ask(Method::POST, "/tenants/acme/resume", None).await;
    stack.until_status("acme", "active").await;
    assert!(!stack.spaces("acme")[0].trashed);

    stack
        .ask(Method::DELETE, "/tenants/acme?confirm=acme", None)
        .await;
    stack.until_status("acme", "terminated").await;
    assert!(stack.authentik.group_named("acme").is_none());
    assert!(!stack.stalwart.domains().contains(&"acme.test".to_owned()));
    assert!(stack.spaces("acme").is_empty());
}
