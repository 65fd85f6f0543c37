//! Liveness, readiness, request ids and CORS.

use std::sync::{Arc, OnceLock};

use bson::doc;
use dezky_api::monitoring_router;
use dezky_sim::stores::Mongo;
use http::StatusCode;
use serde_json::json;
use tower::ServiceExt as _;

use crate::app::{TestApp, shared_issuer};

#[tokio::test]
async fn liveness_returns_200() {
    let app = TestApp::start().await;

    let reply = app.anonymous().get("/healthz").await;

    assert_eq!(reply.status, 200);
    assert_eq!(reply.body["service"], "dezky-platform-api");
    assert_eq!(reply.body["status"], "ok");
}

#[tokio::test]
async fn readiness_succeeds_with_both_stores() {
    let app = TestApp::start().await;

    let reply = app.anonymous().get("/readyz").await;

    assert_eq!(reply.status, 200, "{reply:?}");
    assert_eq!(
        reply.body,
        json!({ "status": "ready", "mongodb": { "ok": true }, "redis": { "ok": true } })
    );
}

#[tokio::test]
async fn without_redis_the_service_is_degraded_and_accepts_writes() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = "redis://127.0.0.1:1/".to_owned();
    })
    .await;

    let reply = app.anonymous().get("/readyz").await;
    app.demo().await;

    assert_eq!(
        (reply.status.as_u16(), &reply.body["status"]),
        (200, &json!("degraded"))
    );
    assert_eq!(app.kinds().await, ["provision_tenant"]);
}

#[tokio::test]
async fn readiness_fails_with_a_long_transaction_lifetime_limit() {
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

    let before = app.anonymous().get("/readyz").await;
    set_limit(60).await;
    let after = app.anonymous().get("/readyz").await;

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
async fn metrics_are_not_served_on_the_api_port() {
    let app = TestApp::start().await;

    assert_eq!(app.anonymous().get("/metrics").await.status, 404);
}

#[tokio::test]
async fn a_valid_request_id_is_kept_and_an_invalid_one_replaced() {
    let app = TestApp::start().await;

    let sane = app
        .anonymous()
        .get("/healthz")
        .header("x-request-id", "abc-1")
        .await;
    let odd = app
        .anonymous()
        .get("/nowhere")
        .header("x-request-id", "a b")
        .await;

    assert_eq!(sane.header("x-request-id"), Some("abc-1"));
    assert_eq!(odd.header("x-request-id").unwrap().len(), 36);
    assert_eq!(odd.body["requestId"], odd.header("x-request-id").unwrap());
}

#[tokio::test]
async fn cors_headers_are_sent_only_to_allowed_origins() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.cors_allowed_origins = vec!["https://portal.dezky.test".parse().unwrap()];
    })
    .await;
    let from = |origin: &'static str| app.anonymous().get("/healthz").header("origin", origin);

    let allowed = from("https://portal.dezky.test").await;
    let other = from("https://evil.test").await;

    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://portal.dezky.test")
    );
    assert_eq!(other.header("access-control-allow-origin"), None);
    let exposed = allowed.header("access-control-expose-headers").unwrap();
    for name in [
        "content-disposition",
        "content-location",
        "etag",
        "idempotency-replayed",
        "location",
        "preference-applied",
        "retry-after",
        "x-request-id",
    ] {
        assert!(
            exposed.split(',').any(|exposed| exposed == name),
            "{exposed}"
        );
    }
}

#[tokio::test]
async fn every_port_of_localhost_can_be_allowed() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.cors_allowed_origins = vec!["http://localhost:*".parse().unwrap()];
    })
    .await;
    let allowed = async |origin: &'static str| {
        let reply = app.anonymous().get("/healthz").header("origin", origin);
        reply.await.header("access-control-allow-origin").is_some()
    };

    assert!(allowed("http://localhost:5173").await);
    for other in [
        "http://localhost:5173.evil.test",
        "http://localhost.evil.test:5173",
        "https://localhost:5173",
        "http://127.0.0.1:5173",
    ] {
        assert!(!allowed(other).await, "{other}");
    }
}

#[tokio::test]
async fn responses_are_not_stored_by_caches() {
    let app = TestApp::with_demo().await;

    for reply in [
        app.owner().get("/users/me").await,
        app.owner().get("/nowhere").await,
        app.anonymous().get("/users/me").await,
        app.anonymous().get("/healthz").await,
    ] {
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{reply:?}");
    }
}

#[tokio::test]
async fn a_request_has_exactly_one_host() {
    let app = TestApp::start().await;
    let without_host = async |version| {
        let request = http::Request::get("/healthz").version(version);
        let request = request.body(axum::body::Body::empty()).unwrap();
        app.router.clone().oneshot(request).await.unwrap().status()
    };
    let without = without_host(http::Version::HTTP_11).await;
    let old = without_host(http::Version::HTTP_10).await;
    let with_two_hosts = async |version| {
        let request = http::Request::get("/healthz").version(version);
        let request = request.header("host", "a").header("host", "b");
        let request = request.body(axum::body::Body::empty()).unwrap();
        app.router.clone().oneshot(request).await.unwrap().status()
    };
    let twice = with_two_hosts(http::Version::HTTP_11).await;
    let old_twice = with_two_hosts(http::Version::HTTP_10).await;

    assert_eq!((without, old), (StatusCode::BAD_REQUEST, StatusCode::OK));
    assert_eq!([twice, old_twice], [StatusCode::BAD_REQUEST; 2]);
}

#[tokio::test]
async fn preflight_requests_have_a_host_too() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.cors_allowed_origins = vec!["https://portal.test".parse().unwrap()];
    })
    .await;
    let preflight = http::Request::options("/tenants").header("origin", "https://portal.test");
    let preflight = preflight.body(axum::body::Body::empty()).unwrap();

    let response = app.router.clone().oneshot(preflight).await.unwrap();

    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn health_and_metrics_are_served_on_a_port_of_their_own() {
    let app = TestApp::start().await;
    let started = Arc::new(OnceLock::new());
    let handle = dezky_api::metrics::start().unwrap();
    let monitoring = monitoring_router(handle, started.clone());
    let status = async |path: &str| {
        let request = http::Request::get(path)
            .body(axum::body::Body::empty())
            .unwrap();
        monitoring
            .clone()
            .oneshot(request)
            .await
            .unwrap()
            .status()
            .as_u16()
    };

    let starting = [status("/healthz").await, status("/readyz").await];
    started.set(app.state.clone()).unwrap();
    let ready = [
        status("/healthz").await,
        status("/readyz").await,
        status("/metrics").await,
    ];

    assert_eq!(starting, [200, 503]);
    assert_eq!(ready, [200; 3]);
}
