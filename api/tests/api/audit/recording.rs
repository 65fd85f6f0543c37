//! What is recorded. That every mutation is, and is once, the table of routes says.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo};
use bson::doc;
use dezky_api::extract::TrustedProxies;
use dezky_shared::audit::Action;
use dezky_sim::callers::Caller;
use serde_json::json;
use tower::ServiceExt as _;

use super::{event, get, listed, record};
use crate::app::{TestApp, shared_issuer};

async fn claimed_by_demo() -> TestApp {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    let claim = app
        .post("/tenants/demo/domains")
        .by(Caller::Owner)
        .json(&json!({ "name": "wanted.test" }))
        .send()
        .await;
    assert_eq!(claim.status, 202, "{claim:?}");
    app
}

/// Asserts that demo's trail says what became of its claim.
async fn demo_has_lost(app: &TestApp) {
    let lost = get(
        app,
        "/tenants/demo/audit?action=domain.lost",
        Caller::Operator,
    )
    .await;
    assert_eq!(listed(&lost, "/target/name"), ["wanted.test"]);
    assert_eq!(listed(&lost, "/actor/email"), ["operator@demo.test"]);
    assert_eq!(listed(&lost, "/outcome"), ["done"]);
}

#[tokio::test]
async fn a_claim_that_is_lost_to_a_name_that_an_operator_adds_is_in_its_tenants_trail() {
    let app = claimed_by_demo().await;

    let added = app
        .post("/tenants/globex/domains")
        .by(Caller::Operator)
        .json(&json!({ "name": "wanted.test" }))
        .send()
        .await;

    assert_eq!(added.status, 202, "{added:?}");
    demo_has_lost(&app).await;
}

#[tokio::test]
async fn a_claim_that_is_lost_to_a_list_of_domains_is_in_its_tenants_trail() {
    let app = claimed_by_demo().await;

    let changed = app
        .patch("/tenants/globex")
        .by(Caller::Operator)
        .json(&json!({ "domains": ["globex.test", "wanted.test"] }))
        .send()
        .await;

    assert_eq!(changed.status, 202, "{changed:?}");
    demo_has_lost(&app).await;
}

#[tokio::test]
async fn a_claim_that_is_lost_to_a_new_tenant_is_in_its_tenants_trail() {
    let app = claimed_by_demo().await;

    let created = app.create("wanted").await;

    assert_eq!(created.status, 202, "{created:?}");
    demo_has_lost(&app).await;
}

#[tokio::test]
async fn an_event_says_whether_a_job_carries_it_out() {
    let app = TestApp::with_demo().await;
    for body in [json!({ "industry": "x" }), json!({ "name": "New" })] {
        app.patch("/tenants/demo")
            .by(Caller::Owner)
            .json(&body)
            .send()
            .await;
    }

    let updates = get(
        &app,
        "/tenants/demo/audit?action=tenant.update",
        Caller::Owner,
    )
    .await;

    assert_eq!(listed(&updates, "/outcome"), ["accepted", "done"]);
    assert_ne!(listed(&updates, "/jobId")[0], "-");
    assert_eq!(listed(&updates, "/jobId")[1], "-");
}

#[tokio::test]
async fn a_secret_in_what_changed_is_masked_before_it_is_stored() {
    let app = TestApp::start().await;
    let mut secret = event(None, 0);
    secret.before = doc! { "webhook": { "secret": "old" } };
    secret.after = doc! { "webhook": { "secret": "new" }, "recoveryLink": "https://…" };

    record(&app, &[secret]).await;

    let events = app.collection("audit_events");
    let stored = events.find_one(doc! {}).await.unwrap().unwrap();
    let part = |name: &str| stored.get_document(name).unwrap().clone();
    assert_eq!(part("before"), doc! { "webhook": { "secret": "***" } });
    assert_eq!(
        part("after"),
        doc! { "webhook": { "secret": "***" }, "recoveryLink": "***" }
    );
}

#[tokio::test]
async fn an_event_that_a_newer_build_recorded_can_be_listed() {
    let app = TestApp::with_demo().await;
    let events = app.collection("audit_events");
    let newer = doc! { "$set": { "action": "tenant.clone", "more": { "of": "it" } } };
    let one = doc! { "action": Action::TenantCreate.to_string() };
    events.update_one(one, newer).await.unwrap();

    let reply = get(&app, "/tenants/demo/audit", Caller::Owner).await;

    assert_eq!(listed(&reply, "/action"), ["user.update", "unknown"]);
}

#[tokio::test]
async fn the_address_of_a_caller_is_what_trusted_proxies_say() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.trusted_proxies = TrustedProxies::new(&["10.0.0.0/8"]).unwrap();
    })
    .await;
    app.demo().await;
    let token = app.token(&Caller::Owner.token());
    let from = async |peer: &str, industry: &str| {
        let peer: SocketAddr = format!("{peer}:4711").parse().unwrap();
        let body = json!({ "industry": industry }).to_string();
        let request = http::Request::patch("/tenants/demo")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .header("x-forwarded-for", "198.51.100.1, 203.0.113.9")
            .extension(ConnectInfo(peer))
            .body(Body::from(body));
        let answer = app.router.clone().oneshot(request.unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
    };

    from("10.1.2.3", "by a proxy").await;
    from("192.0.2.1", "past it").await;

    let updates = "/tenants/demo/audit?action=tenant.update";
    let updates = get(&app, updates, Caller::Owner).await;
    assert_eq!(listed(&updates, "/ip"), ["192.0.2.1", "203.0.113.9"]);
}
