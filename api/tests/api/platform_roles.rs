//! Restricted roles of operators.

use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::TestApp;

/// An app whose caller without the admin flag has this role.
async fn with_role(role: Value) -> TestApp {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::OperatorWithoutFlag).await.id;
    let path = format!("/users/{id}");
    let reply = app
        .operator()
        .patch(path, json!({ "platformRole": role }))
        .await;
    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(reply.body["platformRole"], role);
    assert_eq!(reply.body["platformAdmin"], role == "admin");
    app
}

#[tokio::test]
async fn a_viewer_reads_everything_and_changes_nothing() {
    let app = with_role(json!("viewer")).await;
    let viewer = app.client(Caller::OperatorWithoutFlag);
    let job = app.first_job().await;

    for path in [
        "/tenants",
        "/tenants/demo",
        "/tenants/demo/billing-info",
        "/tenants/demo/users",
        "/jobs/stats",
        "/upstreams",
        "/audit",
    ] {
        assert_eq!(viewer.get(path).await.status, 200, "{path}");
    }
    let suspend = viewer.post_empty("/tenants/demo/suspend").await;
    let requeue = viewer.post_empty(format!("/jobs/{job}/requeue")).await;
    let create = viewer
        .post("/tenants", json!({ "slug": "acme", "name": "Acme" }))
        .await;

    for reply in [suspend, requeue, create] {
        assert_eq!(reply.summary(), "403 forbidden");
    }
}

#[tokio::test]
async fn support_requeues_a_job_and_is_recorded_as_an_operator() {
    let app = with_role(json!("support")).await;
    let support = app.client(Caller::OperatorWithoutFlag);
    let job = app.first_job().await;

    let requeue = support.post_empty(format!("/jobs/{job}/requeue")).await;
    let cancel = support.post_empty(format!("/jobs/{job}/cancel")).await;

    assert_eq!(requeue.status, 202, "{requeue:?}");
    assert_eq!(cancel.summary(), "403 forbidden");
    let event = app.audit_event("job.requeue").await;
    let actor = event.get_document("actor").unwrap();
    assert_eq!(actor.get_str("kind").unwrap(), "operator");
}

#[tokio::test]
async fn a_role_is_taken_away_and_not_given_twice() {
    let app = with_role(json!("support")).await;
    let id = app.user(Caller::OperatorWithoutFlag).await.id;
    let user = format!("/users/{id}");
    let patch = |body: Value| app.operator().patch(&user, body).send();

    let both = patch(json!({ "platformRole": "viewer", "platformAdmin": true })).await;
    let unknown = patch(json!({ "platformRole": "boss" })).await;
    let none = patch(json!({ "platformRole": null })).await;

    assert_eq!(
        both.errors(),
        [("/platformAdmin", "conflicts_with_platform_role")]
    );
    assert_eq!(
        unknown.errors(),
        [("/platformRole", "invalid_platform_role")]
    );
    assert_eq!(none.body["platformRole"], Value::Null);
    let reply = app
        .client(Caller::OperatorWithoutFlag)
        .get("/upstreams")
        .await;
    assert_eq!(reply.summary(), "403 forbidden");
}

#[tokio::test]
async fn an_admin_by_role_has_all_rights() {
    let app = with_role(json!("admin")).await;
    let admin = app.client(Caller::OperatorWithoutFlag);

    let reply = admin.post_empty("/tenants/demo/suspend").await;

    assert_eq!(reply.status, 202, "{reply:?}");
}
