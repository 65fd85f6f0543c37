//! Rate limits per caller and per address.

use std::time::Duration;

use axum::{Router, body::Body};
use bson::doc;
use dezky_api::config::Limit;
use dezky_api::{AppState, config::LimitsConfig, router};
use dezky_sim::{
    callers::Caller,
    issuer::{Forgery, TokenSpec},
};
use http::{Method, Request, StatusCode, header};
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::app::{TestApp, shared_issuer};
use crate::client::Reply;

/// A burst, followed by practically no refill.
fn burst(burst: u32) -> Limit {
    Limit {
        per_second: 0.001,
        burst,
    }
}

async fn limited(change: impl FnOnce(&mut LimitsConfig)) -> TestApp {
    TestApp::start_with(shared_issuer(), |config| {
        // A slow Redis on a busy machine must not switch to the local buckets.
        config.limits.redis_timeout = Duration::from_secs(30);
        change(&mut config.limits);
    })
    .await
}

async fn me(app: &TestApp, caller: Caller) -> Reply {
    app.client(caller).get("/users/me").await
}

/// Number of the stranger's requests that succeed before the first 429.
async fn answered(app: &TestApp) -> usize {
    for answered in 0..1_000 {
        let reply = me(app, Caller::Stranger).await;
        if reply.status != 200 {
            assert_eq!(reply.summary(), "429 too_many_requests");
            return answered;
        }
    }
    panic!("no request was rejected");
}

#[tokio::test]
async fn a_caller_over_the_limit_gets_429_with_retry_after_and_others_are_unaffected() {
    let app = limited(|limits| limits.caller = Some(burst(30))).await;

    let answered = answered(&app).await;
    let rejected = me(&app, Caller::Stranger).await;
    let other = me(&app, Caller::Member).await;

    assert_eq!(answered, 30);
    assert_eq!(rejected.summary(), "429 too_many_requests");
    assert_eq!(rejected.body["retryable"], true);
    let seconds: u32 = rejected.header("retry-after").unwrap().parse().unwrap();
    assert!((900..=1_000).contains(&seconds), "{seconds}");
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn a_rate_limited_request_has_no_effect_and_can_be_retried_with_its_key() {
    let app = limited(|limits| limits.address = Some(burst(1))).await;
    app.sign_in(Caller::Operator).await;
    let operator = app.user(Caller::Operator).await.id;
    let promoted = doc! { "platformAdmin": true };
    app.set("users", doc! { "_id": operator }, promoted).await;
    let flag = json!({ "key": "beta_search", "description": "A new search." });
    let create = |address| {
        let call = app.operator().post("/flags", &flag);
        call.sent_from(address).idempotency_key("one")
    };
    app.anonymous().get("/tenants").sent_from("192.0.2.1").await;

    let rejected = create("192.0.2.1").await;
    let flags = app.count("flags").await;
    let repeated = create("192.0.2.2").await;

    assert_eq!(
        (rejected.summary().as_str(), flags),
        ("429 too_many_requests", 0)
    );
    assert_eq!(repeated.status, 201, "{repeated:?}");
    assert_eq!(repeated.header("idempotency-replayed"), None);
}

#[tokio::test]
async fn rate_limits_are_shared_between_processes() {
    let app = limited(|limits| limits.caller = Some(burst(30))).await;
    let other = AppState::new(&app.config, &app.state.store, &app.shutdown).unwrap();
    let routers = [app.router.clone(), router(other)];
    let token = app.token(&Caller::Stranger.token());
    app.sign_in(Caller::Stranger).await;

    let mut answered = 1;
    for n in 0..200 {
        let status = status_of(&routers[n % 2], &token).await;
        answered += u32::from(status == StatusCode::OK);
    }

    assert_eq!(answered, 30);
}

async fn status_of(router: &Router, token: &str) -> StatusCode {
    let request =
        Request::get("/users/me").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let request = request
        .header(header::HOST, "api.test")
        .body(Body::empty())
        .unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn concurrent_requests_are_each_counted() {
    let app = limited(|limits| limits.caller = Some(burst(40))).await;
    app.sign_in(Caller::Stranger).await;

    let stranger = app.client(Caller::Stranger);
    let requests = (0..100).map(|_| async { stranger.get("/users/me").await });
    let replies = futures::future::join_all(requests).await;

    let answered = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(answered, 39);
}

#[tokio::test]
async fn without_redis_rate_limits_are_per_process() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = "redis://127.0.0.1:1/".to_owned();
        config.limits.caller = Some(burst(30));
    })
    .await;

    assert_eq!(answered(&app).await, 30);
    assert_eq!(me(&app, Caller::Member).await.status, 200);
}

#[tokio::test]
async fn an_unresponsive_redis_does_not_delay_rate_limiting() {
    // Accepts connections and never responds.
    let unresponsive = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", unresponsive.local_addr().unwrap());
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = url;
        config.limits.caller = Some(burst(30));
        config.limits.redis_timeout = Duration::from_millis(50);
    })
    .await;

    assert_eq!(answered(&app).await, 30);
}

#[tokio::test]
async fn an_address_is_limited_across_callers() {
    let app = limited(|limits| limits.address = Some(burst(10))).await;
    let from =
        |address, path: &str, caller: Caller| app.client(caller).get(path).sent_from(address);

    let mut statuses = Vec::new();
    for (path, caller) in [
        ("/users/me", Caller::Stranger),
        ("/users/me", Caller::Member),
        ("/nowhere", Caller::Member),
    ] {
        for _ in 0..5 {
            let reply = from("192.0.2.1", path, caller).await;
            statuses.push(reply.status.as_u16());
        }
    }
    let other = from("192.0.2.2", "/users/me", Caller::Stranger).await;

    assert_eq!(statuses[..10], [200; 10]);
    assert_eq!(statuses[10..], [429; 5]);
    assert_eq!(other.status, 200);
    let public = async |path: &str| {
        let reply = app.anonymous().get(path).sent_from("192.0.2.1").await;
        reply.status.as_u16()
    };
    for path in ["/openapi.json", "/docs"] {
        assert_eq!(public(path).await, 429, "{path}");
    }
    // Health checks have a limit of their own.
    let mut health = Vec::new();
    for n in 0..12 {
        health.push(public(["/healthz", "/readyz"][n % 2]).await);
    }
    assert_eq!(health[..10], [200; 10]);
    assert_eq!(health[10..], [429; 2]);
}

#[tokio::test]
async fn preflight_requests_are_limited_and_a_429_is_readable_across_origins() {
    let origin = "https://portal.test";
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.cors_allowed_origins = vec![origin.parse().unwrap()];
        config.limits.redis_timeout = Duration::from_secs(30);
        config.limits.address = Some(burst(5));
    })
    .await;
    let send = async |method: Method| {
        let call = app.anonymous().request(method, "/tenants");
        let call = call.sent_from("192.0.2.1").header("origin", origin);
        call.header("access-control-request-method", "PUT").await
    };

    let mut preflights = Vec::new();
    for _ in 0..6 {
        preflights.push(send(Method::OPTIONS).await.status.as_u16());
    }
    let request = send(Method::GET).await;

    assert_eq!(preflights, [200, 200, 200, 200, 200, 429]);
    assert_eq!(request.summary(), "429 too_many_requests");
    assert_eq!(request.header("access-control-allow-origin"), Some(origin));
}

#[tokio::test]
async fn too_many_invalid_tokens_limit_an_address_but_not_its_valid_tokens() {
    let app = limited(|limits| limits.failed_sign_in = Some(burst(5))).await;
    let forged = app.client(&TokenSpec {
        forgery: Some(Forgery::AlgNone),
        ..Caller::Stranger.token()
    });
    let bad = |address| forged.get("/users/me").sent_from(address);
    let good = |address| app.stranger().get("/users/me").sent_from(address);

    let mut codes = Vec::new();
    for _ in 0..7 {
        codes.push(bad("192.0.2.1").await.code().to_owned());
    }
    let same_address = good("192.0.2.1").await;
    let other_address = good("192.0.2.2").await;

    assert_eq!(codes[..5], ["token_invalid"; 5]);
    assert_eq!(codes[5..], ["too_many_requests"; 2]);
    let still = bad("192.0.2.1").await;
    assert_eq!(still.summary(), "429 too_many_requests");
    assert!(still.header("retry-after").is_some());
    assert_eq!(
        (same_address.status.as_u16(), other_address.status.as_u16()),
        (200, 200)
    );
}

#[tokio::test]
async fn expired_and_missing_tokens_do_not_count_as_failed_sign_ins() {
    let app = limited(|limits| limits.failed_sign_in = Some(burst(5))).await;
    let long_ago = dezky_shared::platform::clock::now().timestamp_millis() / 1_000 - 7_200;
    let expired = app.client(&TokenSpec {
        issued_at: Some(long_ago),
        expires_in: 3_600,
        ..Caller::Stranger.token()
    });
    let anonymous = app.anonymous();

    for _ in 0..20 {
        let [expired, missing] =
            [&expired, &anonymous].map(|client| client.get("/users/me").sent_from("192.0.2.1"));
        let (expired, missing) = (expired.await, missing.await);

        assert_eq!(expired.summary(), "401 token_expired");
        assert_eq!(missing.summary(), "401 token_missing");
    }
}

#[tokio::test]
async fn resets_of_credentials_have_a_limit_of_their_own() {
    let app = limited(|limits| limits.credentials = Some(burst(3))).await;
    app.demo().await;
    let ada = json!({ "localPart": "ada", "name": "Ada", "role": "member" });
    let ada = app.owner().post("/tenants/demo/users", ada).await;
    let ada = format!("/tenants/demo/users/{}", ada.body["id"].as_str().unwrap());
    let wiki = json!({ "name": "Wiki", "slug": "wiki", "redirectUris": ["https://wiki.test/cb"] });
    let wiki = app.owner().post("/tenants/demo/apps", wiki).await;
    let wiki = format!("/tenants/demo/apps/{}", wiki.body["id"].as_str().unwrap());
    let actions = [
        format!("{ada}/reset-password"),
        format!("{ada}/force-logout"),
        format!("{wiki}/rotate-secret"),
    ];

    for path in &actions {
        assert_eq!(
            app.owner().post_empty(path).await.summary(),
            "202",
            "{path}"
        );
    }
    let jobs = app.count("jobs").await;
    for path in &actions {
        let rejected = app.owner().post_empty(path).await;
        assert_eq!(rejected.summary(), "429 too_many_requests", "{path}");
    }
    let other = app.operator().post_empty(&actions[0]).await;

    assert_eq!(app.owner().get(&ada).await.summary(), "200");
    assert_eq!(other.summary(), "202");
    assert_eq!(app.count("jobs").await, jobs + 1);
}
