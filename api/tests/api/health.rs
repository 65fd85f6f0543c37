//! Whether the process lives, and whether it can do its work.

use bson::doc;
use dezky_sim::stores::Mongo;
use serde_json::json;

use crate::app::{TestApp, shared_issuer};

#[tokio::test]
async fn a_living_process_says_so() {
    let app = TestApp::start().await;

    let reply = app.get("/healthz").send().await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["service"], "dezky-platform-api");
    assert_eq!(reply.body["status"], "ok");
}

#[tokio::test]
async fn with_its_stores_it_is_ready() {
    let app = TestApp::start().await;

    let reply = app.get("/readyz").send().await;

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.body,
        json!({ "status": "ready", "mongodb": { "ok": true }, "redis": { "ok": true } })
    );
}

#[tokio::test]
async fn without_redis_it_is_degraded_and_takes_intents_all_the_same() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = "redis://127.0.0.1:1/".to_owned();
    })
    .await;

    let reply = app.get("/readyz").send().await;
    app.demo().await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["status"]),
        (200, &json!("degraded"))
    );
    assert_eq!(app.kinds().await, ["provision_tenant"]);
}

#[tokio::test]
async fn it_is_not_ready_while_transactions_may_block_a_tenant_for_long() {
    let directory = tempfile::tempdir().unwrap();
    let mongo = Mongo::start(directory.path()).await.unwrap();
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.mongo.uri.clone_from(&mongo.uri);
    })
    .await;
    let set_limit = async |seconds: i32| {
        let command = doc! { "setParameter": 1, "transactionLifetimeLimitSeconds": seconds };
        let jobs = app.collection("jobs");
        jobs.client()
            .database("admin")
            .run_command(command)
            .await
            .unwrap();
    };

    let before = app.get("/readyz").send().await;
    set_limit(60).await;
    let after = app.get("/readyz").send().await;

    assert_eq!(before.status, 200);
    assert_eq!(
        (after.status.as_u16(), &after.body["status"]),
        (503, &json!("unready"))
    );
    let detail = after.body["mongodb"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("transactionLifetimeLimitSeconds"),
        "{detail}"
    );
}

#[tokio::test]
async fn metrics_are_not_on_the_apis_port() {
    let app = TestApp::start().await;

    assert_eq!(app.get("/metrics").send().await.status, 404);
}

#[tokio::test]
async fn a_sane_request_id_is_taken_and_an_odd_one_replaced() {
    let app = TestApp::start().await;

    let sane = app
        .get("/healthz")
        .header("x-request-id", "abc-1")
        .send()
        .await;
    let odd = app
        .get("/nowhere")
        .header("x-request-id", "a b")
        .send()
        .await;

    assert_eq!(sane.header("x-request-id"), Some("abc-1"));
    assert_eq!(odd.header("x-request-id").unwrap().len(), 36);
    assert_eq!(odd.body["requestId"], odd.header("x-request-id").unwrap());
}

#[tokio::test]
async fn only_allowed_pages_may_call_from_a_browser() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.cors_allowed_origins = vec!["https://portal.dezky.test".parse().unwrap()];
    })
    .await;
    let from = |origin: &'static str| app.get("/healthz").header("origin", origin).send();

    let allowed = from("https://portal.dezky.test").await;
    let other = from("https://evil.test").await;

    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://portal.dezky.test")
    );
    assert_eq!(other.header("access-control-allow-origin"), None);
    let exposed = allowed.header("access-control-expose-headers").unwrap();
    for name in ["content-location", "preference-applied", "location", "etag"] {
        assert!(
            exposed.split(',').any(|exposed| exposed == name),
            "{exposed}"
        );
    }
}
