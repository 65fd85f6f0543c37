//! How much may be asked for, and what becomes of what is too much.

use std::time::Duration;

use axum::{Router, body::Body};
use dezky_api::rate_limits::limiter::Limit;
use dezky_api::{AppState, rate_limits::LimitsConfig, router};
use dezky_sim::{
    callers::Caller,
    issuer::{Forgery, TokenSpec},
};
use http::{Request, StatusCode, header};
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::app::{Reply, TestApp, shared_issuer};

/// So many at once, and then as good as none.
fn burst(burst: u32) -> Limit {
    Limit {
        per_second: 0.001,
        burst,
    }
}

async fn limited(change: impl FnOnce(&mut LimitsConfig)) -> TestApp {
    TestApp::start_with(shared_issuer(), |config| change(&mut config.limits)).await
}

async fn me(app: &TestApp, caller: Caller) -> Reply {
    app.get("/users/me").by(caller).send().await
}

/// How many requests of the stranger's are answered before one is refused.
async fn answered(app: &TestApp) -> usize {
    for answered in 0..1_000 {
        let reply = me(app, Caller::Stranger).await;
        if reply.status != 200 {
            assert_eq!(reply.summary(), "429 too_many_requests");
            return answered;
        }
    }
    panic!("nothing was refused");
}

#[tokio::test]
async fn a_caller_over_the_limit_is_told_when_to_come_back_and_no_other_is() {
    let app = limited(|limits| limits.caller = Some(burst(30))).await;

    let answered = answered(&app).await;
    let refused = me(&app, Caller::Stranger).await;
    let other = me(&app, Caller::Member).await;

    assert_eq!(answered, 30);
    assert_eq!(refused.summary(), "429 too_many_requests");
    assert_eq!(refused.body["retryable"], true);
    let seconds: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((900..=1_000).contains(&seconds), "{seconds}");
    assert_eq!(other.status, 200);
}

#[tokio::test]
async fn what_is_over_the_limit_has_no_effect_and_may_be_sent_again_with_its_key() {
    let app = limited(|limits| limits.address = Some(burst(1))).await;
    app.sign_in(Caller::Operator).await;
    let operator = app.user(Caller::Operator).await.id;
    let promote = bson::doc! { "$set": { "platformAdmin": true } };
    let users = app.collection("users");
    users
        .update_one(bson::doc! { "_id": operator }, promote)
        .await
        .unwrap();
    let create = |address: &'static str| {
        app.post("/flags")
            .by(Caller::Operator)
            .coming_from(address)
            .header("idempotency-key", "one")
            .json(&json!({ "key": "beta_search", "description": "A new search." }))
            .send()
    };
    app.get("/tenants").coming_from("192.0.2.1").send().await;

    let refused = create("192.0.2.1").await;
    let flags = app.count("flags").await;
    let repeated = create("192.0.2.2").await;

    assert_eq!(
        (refused.summary().as_str(), flags),
        ("429 too_many_requests", 0)
    );
    assert_eq!(repeated.status, 201, "{repeated:?}");
    assert_eq!(repeated.header("idempotency-replayed"), None);
}

#[tokio::test]
async fn processes_count_together() {
    let app = limited(|limits| limits.caller = Some(burst(30))).await;
    let other = AppState::new(&app.config, &app.state.store, &app.shutdown).unwrap();
    let routers = [app.router.clone(), router(other)];
    let token = app.token(&Caller::Stranger.token());
    app.sign_in(Caller::Stranger).await;

    let mut answered = 1;
    for turn in 0..200 {
        let status = ask(&routers[turn % 2], &token).await;
        answered += u32::from(status == StatusCode::OK);
    }

    assert_eq!(answered, 30);
}

async fn ask(router: &Router, token: &str) -> StatusCode {
    let request =
        Request::get("/users/me").header(header::AUTHORIZATION, format!("Bearer {token}"));
    let request = request.body(Body::empty()).unwrap();
    router.clone().oneshot(request).await.unwrap().status()
}

#[tokio::test]
async fn many_requests_at_once_are_counted_one_by_one() {
    let app = limited(|limits| limits.caller = Some(burst(40))).await;
    app.sign_in(Caller::Stranger).await;

    let replies = futures::future::join_all((0..100).map(|_| me(&app, Caller::Stranger))).await;

    let answered = replies.iter().filter(|reply| reply.status == 200).count();
    assert_eq!(answered, 39);
}

#[tokio::test]
async fn without_redis_a_process_counts_by_itself() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = "redis://127.0.0.1:1/".to_owned();
        config.limits.caller = Some(burst(30));
    })
    .await;

    assert_eq!(answered(&app).await, 30);
    assert_eq!(me(&app, Caller::Member).await.status, 200);
}

#[tokio::test]
async fn a_redis_that_does_not_answer_is_not_waited_for() {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}/", silent.local_addr().unwrap());
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.redis.url = url;
        config.limits.caller = Some(burst(30));
        config.limits.patience = Duration::from_millis(50);
    })
    .await;

    assert_eq!(answered(&app).await, 30);
}

#[tokio::test]
async fn an_address_is_limited_whoever_comes_from_it() {
    let app = limited(|limits| limits.address = Some(burst(10))).await;
    let from = |address: &'static str, path: &'static str, caller: Caller| {
        app.get(path).by(caller).coming_from(address).send()
    };

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
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs"] {
        let reply = app.get(path).coming_from("192.0.2.1").send().await;
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[tokio::test]
async fn an_address_with_too_many_bad_tokens_is_told_so_and_valid_ones_from_there_still_count() {
    let app = limited(|limits| limits.failed_sign_in = Some(burst(5))).await;
    let forged = app.token(&TokenSpec {
        forgery: Some(Forgery::AlgNone),
        ..Caller::Stranger.token()
    });
    let bad = |address: &'static str, token: String| {
        app.get("/users/me")
            .token(&token)
            .coming_from(address)
            .send()
    };
    let good = |address: &'static str| {
        app.get("/users/me")
            .by(Caller::Stranger)
            .coming_from(address)
            .send()
    };

    let mut codes = Vec::new();
    for _ in 0..7 {
        codes.push(bad("192.0.2.1", forged.clone()).await.code().to_owned());
    }
    let same_address = good("192.0.2.1").await;
    let other_address = good("192.0.2.2").await;

    assert_eq!(codes[..5], ["token_invalid"; 5]);
    assert_eq!(codes[5..], ["too_many_requests"; 2]);
    let still = bad("192.0.2.1", forged.clone()).await;
    assert_eq!(still.summary(), "429 too_many_requests");
    assert!(still.header("retry-after").is_some());
    assert_eq!(
        (same_address.status.as_u16(), other_address.status.as_u16()),
        (200, 200)
    );
}

#[tokio::test]
async fn a_token_that_has_ended_or_is_missing_is_nobodys_guess() {
    let app = limited(|limits| limits.failed_sign_in = Some(burst(5))).await;
    let long_ago = dezky_shared::platform::clock::now().timestamp_millis() / 1_000 - 7_200;
    let expired = app.token(&TokenSpec {
        issued_at: Some(long_ago),
        expires_in: 3_600,
        ..Caller::Stranger.token()
    });

    for _ in 0..20 {
        let call = || app.get("/users/me").coming_from("192.0.2.1");
        let ended = call().token(&expired).send().await;
        let missing = call().send().await;

        assert_eq!(ended.summary(), "401 token_expired");
        assert_eq!(missing.summary(), "401 token_missing");
    }
}
