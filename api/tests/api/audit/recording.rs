//! Recorded audit events. The access table covers that every mutation is recorded exactly once.

use std::net::SocketAddr;

use axum::{body::Body, extract::ConnectInfo};
use bson::doc;
use dezky_api::config::TrustedProxies;
use dezky_shared::audit::Action;
use dezky_sim::callers::Caller;
use serde_json::json;
use tower::ServiceExt as _;

use super::{event, record};
use crate::app::{TestApp, shared_issuer};

async fn claimed_by_demo() -> TestApp {
    let app = TestApp::with_demo().await;
    app.create("globex").await;
    let claim = app
        .owner()
        .post("/tenants/demo/domains", json!({ "name": "wanted.test" }))
        .await;
    assert_eq!(claim.status, 202, "{claim:?}");
    app
}

/// Asserts that demo's trail records the loss of its claim.
async fn assert_loss_recorded(app: &TestApp) {
    let lost = app
        .operator()
        .get("/tenants/demo/audit?action=domain.lost")
        .await;
    assert_eq!(lost.texts("/target/name"), ["wanted.test"]);
    assert_eq!(lost.texts("/actor/email"), ["operator@demo.test"]);
    assert_eq!(lost.texts("/outcome"), ["done"]);
}

#[tokio::test]
async fn losing_a_claim_to_an_operators_domain_is_audited_for_the_losing_tenant() {
    let app = claimed_by_demo().await;

    let added = app
        .operator()
        .post("/tenants/globex/domains", json!({ "name": "wanted.test" }))
        .await;

    assert_eq!(added.status, 202, "{added:?}");
    assert_loss_recorded(&app).await;
}

#[tokio::test]
async fn losing_a_claim_to_a_tenant_update_is_audited_for_the_losing_tenant() {
    let app = claimed_by_demo().await;

    let changed = app
        .operator()
        .patch(
            "/tenants/globex",
            json!({ "domains": ["globex.test", "wanted.test"] }),
        )
        .await;

    assert_eq!(changed.status, 202, "{changed:?}");
    assert_loss_recorded(&app).await;
}

#[tokio::test]
async fn losing_a_claim_to_a_new_tenant_is_audited_for_the_losing_tenant() {
    let app = claimed_by_demo().await;

    let created = app.create("wanted").await;

    assert_eq!(created.status, 202, "{created:?}");
    assert_loss_recorded(&app).await;
}

#[tokio::test]
async fn an_event_links_the_job_that_carries_it_out() {
    let app = TestApp::with_demo().await;
    for body in [json!({ "industry": "x" }), json!({ "name": "New" })] {
        app.owner().patch("/tenants/demo", &body).await;
    }

    let updates = app
        .owner()
        .get("/tenants/demo/audit?action=tenant.update")
        .await;

    assert_eq!(updates.texts("/outcome"), ["accepted", "done"]);
    assert_ne!(updates.texts("/jobId")[0], "-");
    assert_eq!(updates.texts("/jobId")[1], "-");
}

#[tokio::test]
async fn secrets_are_redacted_before_an_event_is_stored() {
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
async fn an_event_recorded_by_a_newer_build_is_listed() {
    let app = TestApp::with_demo().await;
    let events = app.collection("audit_events");
    let newer = doc! { "$set": { "action": "tenant.clone", "more": { "of": "it" } } };
    let one = doc! { "action": Action::TenantCreate.to_string() };
    events.update_one(one, newer).await.unwrap();

    let reply = app.owner().get("/tenants/demo/audit").await;

    assert_eq!(reply.texts("/action"), ["user.update", "unknown"]);
}

#[tokio::test]
async fn the_client_address_is_taken_from_trusted_proxies() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.server.trusted_proxies = TrustedProxies::new(&["10.0.0.0/8"]).unwrap();
    })
    .await;
    app.demo().await;
    let token = app.token(&Caller::Owner.token());
    let from = async |peer: &str, industry: &str| {
        let peer: SocketAddr = format!("{peer}:4711").parse().unwrap();
        let body = json!({ "industry": industry }).to_string();
        let request = http::Request::patch("/tenants/demo")
            .header("host", "api.test")
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
    let updates = app.owner().get(updates).await;
    assert_eq!(updates.texts("/ip"), ["192.0.2.1", "203.0.113.9"]);
}
