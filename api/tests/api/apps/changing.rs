//! Changes and removal.

use bson::doc;
use dezky_shared::app::AppStatus;
use serde_json::json;

use super::{create, jobs, new, path_of, stored};
use crate::app::TestApp;

#[tokio::test]
async fn a_change_is_pending_until_its_job_has_run() {
    let app = TestApp::with_demo().await;
    let path = path_of(&create(&app, &new("wiki")).await);
    app.set("apps", doc! {}, doc! { "status": "active" }).await;
    let jobs_collection = app.collection("jobs");
    jobs_collection.delete_many(doc! {}).await.unwrap();

    let change =
        json!({ "redirectUris": ["https://new.demo.test/cb"], "scopes": ["offline_access"] });
    let changed = app.owner().patch(&path, &change).await;
    let nothing = app.owner().patch(&path, &change).await;

    assert_eq!(changed.status, 202, "{changed:?}");
    assert_eq!(
        (&changed.body["status"], &changed.body["generation"]),
        (&json!("pending"), &json!(2))
    );
    assert_eq!(
        changed.body["grantTypes"],
        json!(["authorization_code", "refresh_token"])
    );
    assert_eq!(changed.body.get("clientSecret"), None);
    assert_eq!(
        (nothing.status.as_u16(), &nothing.body["generation"]),
        (200, &json!(2))
    );
    let enqueued = jobs(&app, "provision_app").await;
    assert_eq!(enqueued.len(), 1);
    assert!(enqueued[0].secrets.is_none());
    let event = app.audit_event("app.update").await;
    let after = event.get_document("after").unwrap();
    assert!(after.contains_key("redirectUris") && !after.contains_key("name"));
}

#[tokio::test]
async fn a_change_joins_the_job_of_a_new_app_and_keeps_its_secret() {
    let app = TestApp::with_demo().await;
    let created = create(&app, &new("wiki")).await;

    let changed = app
        .owner()
        .patch(path_of(&created), json!({ "name": "Handbook" }))
        .await;

    assert_eq!(changed.body["job"]["id"], created.body["job"]["id"]);
    let job = &jobs(&app, "provision_app").await[0];
    let secret = super::carried(&app, job);
    assert_eq!(secret.as_deref(), created.body["clientSecret"].as_str());
}

#[tokio::test]
async fn slug_client_type_and_client_id_cannot_be_changed() {
    let app = TestApp::with_demo().await;
    let path = path_of(&create(&app, &new("wiki")).await);

    for field in ["slug", "clientType", "clientId", "clientSecret", "issuer"] {
        let reply = app.owner().patch(&path, json!({ field: "x" })).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{field}");
    }
    let custom = json!({ "redirectUris": ["com.example.app:/callback"] });
    let reply = app.owner().patch(&path, custom).await;
    assert_eq!(
        reply.errors(),
        [("/redirectUris/0", "invalid_redirect_uri")]
    );
}

#[tokio::test]
async fn a_stale_version_is_refused_on_every_change() {
    let app = TestApp::with_demo().await;
    let created = create(&app, &new("wiki")).await;
    let (path, owner) = (path_of(&created), app.owner());
    owner.patch(&path, json!({ "name": "Handbook" })).await;

    let stale = created.etag();
    let replies = [
        owner
            .patch(&path, json!({ "name": "x" }))
            .if_match(stale)
            .await,
        owner.delete(&path).if_match(stale).await,
        owner
            .post_empty(format!("{path}/rotate-secret"))
            .if_match(stale)
            .await,
    ];

    for reply in replies {
        assert_eq!(reply.summary(), "412 precondition_failed");
    }
    let current = owner.get(&path).await;
    let cached = owner.get(&path).if_none_match(current.etag()).await;
    assert_eq!(cached.status, 304);
}

#[tokio::test]
async fn a_removed_app_cannot_be_changed_and_its_removal_can_be_repeated() {
    let app = TestApp::with_demo().await;
    let path = path_of(&create(&app, &new("wiki")).await);
    let owner = app.owner();

    let removed = owner.delete(&path).await;
    let again = owner.delete(&path).await;
    let changed = owner.patch(&path, json!({ "name": "x" })).await;
    let rotated = owner.post_empty(format!("{path}/rotate-secret")).await;

    assert_eq!((removed.status.as_u16(), again.status.as_u16()), (202, 202));
    assert_eq!(removed.body["status"], "removing");
    assert_eq!(again.body["job"]["id"], removed.body["job"]["id"]);
    assert_eq!(changed.summary(), "409 app_removing");
    assert_eq!(rotated.summary(), "409 app_removing");
    assert_eq!(stored(&app, "wiki").await.status, AppStatus::Removing);
    assert_eq!(jobs(&app, "remove_app").await.len(), 1);
}
