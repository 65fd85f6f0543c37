//! Tenant summary.

use bson::{DateTime, doc};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    client::{Reply, without_messages},
    tenant_health::subscribe,
};

async fn summary(app: &TestApp, caller: Caller) -> Reply {
    let reply = app.client(caller).get("/tenants/demo/summary").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

#[tokio::test]
async fn the_summary_shows_subscription_price_and_health() {
    let app = TestApp::with_demo().await;
    let demo = app.tenant("demo").await.id;
    let renews_at = DateTime::from_millis(1_795_339_800_000);
    let yearly = doc! {
        "cycle": "yearly", "priceMinor": 100_000_i64, "status": "past_due", "renewsAt": renews_at,
    };
    subscribe(&app, demo, yearly).await;
    subscribe(&app, demo, doc! { "status": "cancelled", "seats": 99 }).await;

    let shown = summary(&app, Caller::Member).await.body;

    assert_eq!(
        without_messages(shown),
        json!({
            "slug": "demo", "status": "pending", "plan": "business",
            "health": { "status": "attention", "reasons": [{ "code": "past_due" }] },
            "seats": { "used": 2, "bought": 5 },
            "monthlySpend": [{ "currency": "DKK", "amountMinor": 8_333 }],
            "renewsAt": "2026-11-22T09:30:00.000Z",
            "domains": { "total": 1, "verified": 0, "pending": 1, "attention": 0, "failed": 0 },
            "domainsNeedingAttention": [], "failedSteps": [],
        })
    );
}

#[tokio::test]
async fn a_tenant_without_a_subscription_pays_nothing() {
    let app = TestApp::with_demo().await;

    let shown = summary(&app, Caller::Owner).await.body;

    assert_eq!(shown["seats"], json!({ "used": 2 }));
    assert_eq!(shown["monthlySpend"], json!([]));
    assert_eq!(shown["renewsAt"], Value::Null);
}

#[tokio::test]
async fn audit_readers_see_recent_events_without_operator_email() {
    let app = TestApp::with_demo().await;
    app.with_partner("read-only").await;
    for n in 0..12 {
        app.owner()
            .patch("/tenants/demo", json!({ "name": format!("Demo {n}") }))
            .await;
    }
    app.operator().post_empty("/tenants/demo/suspend").await;

    for caller in [Caller::Owner, Caller::Partner, Caller::Operator] {
        let shown = summary(&app, caller).await.body;
        let events = shown["lastEvents"].as_array().unwrap();

        assert_eq!(events.len(), 10, "{caller:?}");
        assert_eq!(events[0]["action"], "tenant.suspend");
        let email = matches!(caller, Caller::Operator).then_some("operator@demo.test");
        assert_eq!(events[0]["actorEmail"].as_str(), email, "{caller:?}");
        assert_eq!(events[0]["target"], "demo");
        assert_eq!(events[0]["outcome"], "accepted");
        assert_eq!(events[1]["action"], "tenant.update");
        assert_eq!(events[1]["actorEmail"], "owner@demo.test");
    }
    let shown = summary(&app, Caller::Member).await.body;
    assert!(shown.get("lastEvents").is_none());
}
