//! Idempotency keys.

use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

async fn create(app: &TestApp, key: &str, body: &Value) -> Reply {
    app.operator()
        .post("/tenants", body)
        .idempotency_key(key)
        .await
}

fn acme() -> Value {
    json!({ "slug": "acme", "name": "Acme" })
}

#[tokio::test]
async fn a_repeated_request_is_replayed_and_changes_nothing() {
    let app = TestApp::with_operator().await;

    let first = create(&app, "k", &acme()).await;
    let again = create(&app, "k", &acme()).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
    assert!(again.is_replayed());
    assert_eq!(first.header("idempotency-replayed"), None);
    assert_eq!(first.body, again.body);
    for name in ["location", "etag", "retry-after", "content-type"] {
        assert_eq!(first.header(name), again.header(name));
    }
    assert_eq!(
        (app.count("tenants").await, app.count("jobs").await),
        (1, 1)
    );
    assert_eq!(app.actions().await, ["user.create", "tenant.create"]);
}

#[tokio::test]
async fn concurrent_requests_with_one_key_execute_once() {
    let app = TestApp::with_operator().await;
    let body = acme();

    let replies = join_all((0..6).map(|_| create(&app, "k", &body))).await;

    for reply in &replies {
        assert!(
            ["202", "409 idempotency_in_progress"].contains(&reply.summary().as_str()),
            "{reply:?}"
        );
    }
    let fresh = replies
        .iter()
        .filter(|reply| reply.status == 202 && reply.header("idempotency-replayed").is_none());
    assert_eq!(fresh.count(), 1);
    assert_eq!(app.count("tenants").await, 1);
}

#[tokio::test]
async fn a_key_held_by_an_open_transaction_is_in_progress() {
    let app = TestApp::with_operator().await;
    create(&app, "other", &json!({ "slug": "globex", "name": "G" })).await;
    // Simulates another process: the same key in an open transaction.
    let keys = app.collection("idempotency_keys");
    let mut session = app
        .state
        .store
        .database()
        .client()
        .start_session()
        .await
        .unwrap();
    let first = create(&app, "k", &acme()).await;
    assert_eq!(first.status, 202);
    let record = keys
        .find_one(bson::doc! { "answer.body": { "$regex": "acme" } })
        .await
        .unwrap()
        .unwrap();
    keys.delete_one(bson::doc! { "_id": record.get_str("_id").unwrap() })
        .await
        .unwrap();
    session.start_transaction().await.unwrap();
    keys.insert_one(record).session(&mut session).await.unwrap();

    let reply = create(&app, "k", &acme()).await;

    assert_eq!(reply.summary(), "409 idempotency_in_progress");
    assert_eq!(reply.body["retryable"], true);
    session.abort_transaction().await.unwrap();
}

#[tokio::test]
async fn reusing_a_key_with_a_different_request_is_rejected() {
    let app = TestApp::with_operator().await;
    create(&app, "k", &acme()).await;

    let other = create(&app, "k", &json!({ "slug": "globex", "name": "G" })).await;
    let malformed = app
        .operator()
        .post_empty("/tenants")
        .idempotency_key("k")
        .body("application/json", "{")
        .await;

    assert_eq!(other.summary(), "422 idempotency_key_reused");
    assert_eq!(malformed.summary(), "422 idempotency_key_reused");
    assert_eq!(app.count("tenants").await, 1);
}

#[tokio::test]
async fn a_key_used_with_a_wrong_content_type_cannot_be_reused() {
    let app = TestApp::with_operator().await;
    let send = |content_type: &'static str| {
        app.operator()
            .post_empty("/tenants")
            .idempotency_key("k")
            .body(content_type, acme().to_string())
    };

    let invalid = send("text/plain").await;
    let corrected = send("application/json").await;

    assert_eq!(invalid.summary(), "415 unsupported_media_type");
    assert_eq!(corrected.summary(), "422 idempotency_key_reused");
}

#[tokio::test]
async fn a_key_used_with_an_encoded_body_is_not_replayed_for_a_plain_one() {
    let app = TestApp::with_operator().await;
    let post = || app.operator().post("/tenants", acme()).idempotency_key("k");
    let encoded = || post().header("content-encoding", "gzip");

    let rejected = encoded().await;
    let again = encoded().await;
    let corrected = post().await;

    assert_eq!(rejected.summary(), "415 unsupported_media_type");
    assert_eq!(again.summary(), "415 unsupported_media_type");
    assert!(again.is_replayed());
    assert_eq!(corrected.summary(), "422 idempotency_key_reused");
}

#[tokio::test]
async fn percent_encoding_of_the_path_does_not_change_the_idempotency_scope() {
    let app = TestApp::with_demo().await;
    let suspend = |path: &'static str| app.operator().post_empty(path).idempotency_key("k");

    let first = suspend("/tenants/demo/suspend").await;
    let again = suspend("/tenants/%64emo/suspend").await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
    assert!(again.is_replayed());
}

#[tokio::test]
async fn idempotency_keys_are_scoped_to_caller_and_route() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    let post =
        |path: &'static str, caller| app.client(caller).post_empty(path).idempotency_key("k");

    let replies = [
        post("/tenants/demo/reconcile", Caller::Operator).await,
        post("/tenants/demo/reconcile", Caller::Owner).await,
        post("/tenants/globex/reconcile", Caller::Operator).await,
        post("/tenants/demo/suspend", Caller::Operator).await,
    ];

    for reply in replies {
        assert_eq!(
            (reply.status.as_u16(), reply.header("idempotency-replayed")),
            (202, None)
        );
    }
}

#[tokio::test]
async fn a_validation_error_is_stored_under_the_key() {
    let app = TestApp::with_operator().await;
    let send = async |key: &str, content_type: &str, body: &str| {
        let call = app.operator().post_empty("/tenants").idempotency_key(key);
        call.body(content_type, body).await
    };

    for (key, content_type, body, expected) in [
        ("a", "application/json", "{", "400 invalid_request"),
        ("b", "text/plain", "{}", "415 unsupported_media_type"),
        (
            "c",
            "application/json",
            "{\"slug\":\"WWW\",\"name\":\"\"}",
            "422 validation_failed",
        ),
    ] {
        let first = send(key, content_type, body).await;
        let mut again = send(key, content_type, body).await;
        let changed = send(
            key,
            "application/json",
            "{\"slug\":\"acme\",\"name\":\"Acme\"}",
        )
        .await;

        assert_eq!(
            (first.summary().as_str(), again.summary().as_str()),
            (expected, expected)
        );
        assert!(again.is_replayed());
        again.body["requestId"] = first.body["requestId"].clone();
        assert_eq!(first.body, again.body);
        assert_eq!(changed.summary(), "422 idempotency_key_reused");
    }
}

#[tokio::test]
async fn a_state_conflict_is_not_stored_under_the_key() {
    let app = TestApp::with_demo().await;
    let restore = || {
        app.operator()
            .post_empty("/tenants/demo/restore")
            .idempotency_key("k")
    };

    let before = restore().await;
    app.operator().delete("/tenants/demo?confirm=demo").await;
    let after = restore().await;

    assert_eq!(
        (before.summary().as_str(), after.summary().as_str()),
        ("409 not_terminating", "202")
    );
}

#[tokio::test]
async fn a_caller_without_access_gets_no_replayed_response() {
    let app = TestApp::with_demo().await;
    let reconcile = || {
        app.owner()
            .post_empty("/tenants/demo/reconcile")
            .idempotency_key("k")
    };
    let before = reconcile().await;
    let owners = bson::doc! { "$set": { "memberships": [] } };
    app.collection("users")
        .update_many(bson::doc! { "memberships.role": "owner" }, owners)
        .await
        .unwrap();

    let after = reconcile().await;

    assert_eq!((before.status.as_u16(), after.status.as_u16()), (202, 404));
}

#[tokio::test]
async fn invalid_keys_are_rejected() {
    let app = TestApp::with_operator().await;

    for key in ["", " ", "a b", "é", &"k".repeat(256)] {
        let reply = create(&app, key, &acme()).await;

        assert_eq!(reply.summary(), "400 invalid_idempotency_key", "{key:?}");
    }
    assert_eq!(create(&app, &"k".repeat(255), &acme()).await.status, 202);
}

#[tokio::test]
async fn a_response_without_changes_is_stored_under_the_key() {
    let app = TestApp::with_demo().await;
    let resume = || {
        app.operator()
            .post_empty("/tenants/demo/resume")
            .idempotency_key("k")
    };

    let first = resume().await;
    let again = resume().await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (200, 200));
    assert!(again.is_replayed());
}
