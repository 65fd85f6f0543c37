//! Requests that are repeated.

use dezky_sim::callers::Caller;
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

async fn create(app: &TestApp, key: &str, body: &Value) -> Reply {
    app.post("/tenants")
        .by(Caller::Operator)
        .header("idempotency-key", key)
        .json(body)
        .send()
        .await
}

fn acme() -> Value {
    json!({ "slug": "acme", "name": "Acme" })
}

async fn operator() -> TestApp {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;
    app
}

#[tokio::test]
async fn a_repeated_request_is_given_the_same_answer_and_changes_nothing() {
    let app = operator().await;

    let first = create(&app, "k", &acme()).await;
    let again = create(&app, "k", &acme()).await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
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
async fn of_two_at_once_with_one_key_one_is_carried_out() {
    let app = operator().await;
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
async fn a_key_that_an_open_transaction_holds_is_in_progress() {
    let app = operator().await;
    create(&app, "other", &json!({ "slug": "globex", "name": "G" })).await;
    // As if another process were in the middle of it: the same key, in a transaction that stays open.
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
async fn a_key_with_another_body_or_query_is_refused() {
    let app = operator().await;
    create(&app, "k", &acme()).await;

    let other = create(&app, "k", &json!({ "slug": "globex", "name": "G" })).await;
    let malformed = app
        .post("/tenants")
        .by(Caller::Operator)
        .header("idempotency-key", "k")
        .raw("application/json", b"{".to_vec())
        .send()
        .await;

    assert_eq!(other.summary(), "422 idempotency_key_reused");
    assert_eq!(malformed.summary(), "422 idempotency_key_reused");
    assert_eq!(app.count("tenants").await, 1);
}

#[tokio::test]
async fn a_refused_content_type_does_not_outlive_its_correction() {
    let app = operator().await;
    let send = |content_type: &'static str| {
        app.post("/tenants")
            .by(Caller::Operator)
            .header("idempotency-key", "k")
            .raw(content_type, acme().to_string().into_bytes())
            .send()
    };

    let wrong = send("text/plain").await;
    let corrected = send("application/json").await;

    assert_eq!(wrong.summary(), "415 unsupported_media_type");
    assert_eq!(corrected.summary(), "422 idempotency_key_reused");
}

#[tokio::test]
async fn a_key_is_the_same_however_the_path_is_spelled() {
    let app = TestApp::with_demo().await;
    let suspend = |path: &'static str| {
        app.post(path)
            .by(Caller::Operator)
            .header("idempotency-key", "k")
            .send()
    };

    let first = suspend("/tenants/demo/suspend").await;
    let again = suspend("/tenants/%64emo/suspend").await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

#[tokio::test]
async fn a_key_is_its_callers_and_its_routes_own() {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    let act = |path: &'static str, caller| {
        app.call(Method::POST, path)
            .by(caller)
            .header("idempotency-key", "k")
            .send()
    };

    let replies = [
        act("/tenants/demo/reconcile", Caller::Operator).await,
        act("/tenants/demo/reconcile", Caller::Owner).await,
        act("/tenants/globex/reconcile", Caller::Operator).await,
        act("/tenants/demo/suspend", Caller::Operator).await,
    ];

    for reply in replies {
        assert_eq!(
            (reply.status.as_u16(), reply.header("idempotency-replayed")),
            (202, None)
        );
    }
}

#[tokio::test]
async fn a_refusal_that_follows_from_the_request_alone_is_remembered() {
    let app = operator().await;
    let send = async |key: &str, content_type: &str, body: &str| {
        let call = app
            .post("/tenants")
            .by(Caller::Operator)
            .header("idempotency-key", key);
        call.raw(content_type, body.as_bytes().to_vec())
            .send()
            .await
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
        assert_eq!(again.header("idempotency-replayed"), Some("true"));
        again.body["requestId"] = first.body["requestId"].clone();
        assert_eq!(first.body, again.body);
        assert_eq!(changed.summary(), "422 idempotency_key_reused");
    }
}

#[tokio::test]
async fn a_refusal_that_follows_from_the_state_is_not_remembered() {
    let app = TestApp::with_demo().await;
    let restore = || {
        app.post("/tenants/demo/restore")
            .by(Caller::Operator)
            .header("idempotency-key", "k")
            .send()
    };

    let before = restore().await;
    app.delete("/tenants/demo?confirm=demo")
        .by(Caller::Operator)
        .send()
        .await;
    let after = restore().await;

    assert_eq!(
        (before.summary().as_str(), after.summary().as_str()),
        ("409 not_terminating", "202")
    );
}

#[tokio::test]
async fn whoever_lost_their_rights_is_given_no_stored_answer() {
    let app = TestApp::with_demo().await;
    let reconcile = || {
        app.post("/tenants/demo/reconcile")
            .by(Caller::Owner)
            .header("idempotency-key", "k")
            .send()
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
async fn odd_keys_are_refused() {
    let app = operator().await;

    for key in ["", " ", "a b", "é", &"k".repeat(256)] {
        let reply = create(&app, key, &acme()).await;

        assert_eq!(reply.summary(), "400 invalid_idempotency_key", "{key:?}");
    }
    assert_eq!(create(&app, &"k".repeat(255), &acme()).await.status, 202);
}

#[tokio::test]
async fn what_changes_nothing_is_remembered_too() {
    let app = TestApp::with_demo().await;
    let resume = || {
        app.post("/tenants/demo/resume")
            .by(Caller::Operator)
            .header("idempotency-key", "k")
            .send()
    };

    let first = resume().await;
    let again = resume().await;

    assert_eq!((first.status.as_u16(), again.status.as_u16()), (200, 200));
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}
