//! Client secrets: shown once, and stored nowhere but encrypted in the job.

use bson::{Document, doc};
use futures::TryStreamExt as _;
use serde_json::json;

use super::{carried, create, jobs, new, path_of, stored};
use crate::app::TestApp;

#[tokio::test]
async fn a_replayed_request_does_not_show_the_secret_again() {
    let app = TestApp::with_demo().await;
    let owner = app.owner();

    let first = owner
        .post("/tenants/demo/apps", new("wiki"))
        .idempotency_key("create-1")
        .await;
    let replayed = owner
        .post("/tenants/demo/apps", new("wiki"))
        .idempotency_key("create-1")
        .await;
    let rotate = format!("{}/rotate-secret", path_of(&first));
    let rotated = owner.post_empty(&rotate).idempotency_key("rotate-1").await;
    let rotated_again = owner.post_empty(&rotate).idempotency_key("rotate-1").await;

    for (first, replayed) in [(&first, &replayed), (&rotated, &rotated_again)] {
        assert!(first.body["clientSecret"].is_string(), "{first:?}");
        assert!(replayed.is_replayed());
        assert_eq!(
            (
                &replayed.body["clientSecret"],
                &replayed.body["secretAlreadyShown"]
            ),
            (&json!(null), &json!(true))
        );
        assert_eq!(replayed.body["id"], first.body["id"]);
    }
    assert_ne!(first.body["clientSecret"], rotated.body["clientSecret"]);
    assert_eq!(app.count("apps").await, 1);
    assert_eq!(jobs(&app, "rotate_app_secret").await.len(), 1);
}

#[tokio::test]
async fn a_request_that_waits_shows_the_secret_too() {
    let app = TestApp::with_demo().await;

    // No worker runs: the response comes when the wait is over.
    let created = app
        .owner()
        .post("/tenants/demo/apps", new("wiki"))
        .wait(1)
        .await;

    assert!(created.body["clientSecret"].is_string(), "{created:?}");
    assert_eq!(created.header("preference-applied"), Some("wait"));
}

#[tokio::test]
async fn each_rotation_has_a_job_of_its_own_and_the_last_counts() {
    let app = TestApp::with_demo().await;
    let path = path_of(&create(&app, &new("wiki")).await);
    let rotate = format!("{path}/rotate-secret");

    let first = app.owner().post_empty(&rotate).await;
    let second = app.owner().post_empty(&rotate).await;

    assert_ne!(first.body["job"]["id"], second.body["job"]["id"]);
    let jobs = jobs(&app, "rotate_app_secret").await;
    let versions: Vec<i64> = jobs
        .iter()
        .map(|job| job.args.get_i64("secretVersion").unwrap())
        .collect();
    assert_eq!(versions, [2, 3]);
    assert_eq!(stored(&app, "wiki").await.secret_version, 3);
    let secret = carried(&app, &jobs[1]);
    assert_eq!(secret.as_deref(), second.body["clientSecret"].as_str());
}

#[tokio::test]
async fn no_stored_document_contains_the_secret() {
    let app = TestApp::with_demo().await;
    let created = app
        .owner()
        .post("/tenants/demo/apps", new("wiki"))
        .idempotency_key("create-1")
        .await;
    let rotated = app
        .owner()
        .post_empty(format!("{}/rotate-secret", path_of(&created)))
        .idempotency_key("rotate-1")
        .await;
    let secrets = [&created, &rotated].map(|reply| reply.body["clientSecret"].as_str().unwrap());

    let database = app.state.store.database();
    for name in database.list_collection_names().await.unwrap() {
        let found = app.collection(&name).find(doc! {}).await.unwrap();
        let found: Vec<Document> = found.try_collect().await.unwrap();
        let text = format!("{found:?}");
        for secret in secrets {
            assert!(!text.contains(secret), "{name}");
        }
    }
}

#[tokio::test]
async fn without_encryption_keys_no_confidential_app_is_created() {
    let app = TestApp::with_demo().await.without_encryption_keys();

    let refused = create(&app, &new("wiki")).await;

    assert_eq!(refused.summary(), "503 sealing_not_configured");
    assert_eq!(app.count("apps").await, 0);
}
