//! A tenant at a glance.

use bson::{DateTime, doc};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp},
    tenant_health::subscribe,
};

async fn summary(app: &TestApp, caller: Caller) -> Reply {
    let reply = app.get("/tenants/demo/summary").by(caller).send().await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply
}

#[tokio::test]
async fn it_says_what_is_bought_and_paid_and_how_well_the_tenant_is() {
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
        shown,
        json!({
            "slug": "demo", "status": "pending", "plan": "business",
            "health": { "status": "attention", "reasons": [
                { "code": "past_due", "message": "An invoice is overdue." },
            ] },
            "seats": { "used": 2, "bought": 5 },
            "monthlySpend": [{ "currency": "DKK", "amountMinor": 8_333 }],
            "renewsAt": "2026-11-22T09:30:00.000Z",
            "domains": { "total": 1, "verified": 0, "pending": 1, "attention": 0, "failed": 0 },
            "domainsNeedingAttention": [], "failedSteps": [],
        })
    );
}

#[tokio::test]
async fn a_tenant_that_has_bought_nothing_pays_nothing() {
    let app = TestApp::with_demo().await;

    let shown = summary(&app, Caller::Owner).await.body;

    assert_eq!(shown["seats"], json!({ "used": 2 }));
    assert_eq!(shown["monthlySpend"], json!([]));
    assert_eq!(shown["renewsAt"], Value::Null);
}

#[tokio::test]
async fn those_who_may_read_the_audit_trail_see_its_last_events_but_of_operators_no_address() {
    let app = TestApp::with_demo().await;
    app.with_partner("read-only").await;
    for n in 0..12 {
        app.patch("/tenants/demo")
            .by(Caller::Owner)
            .json(&json!({ "name": format!("Demo {n}") }))
            .send()
            .await;
    }
    app.post("/tenants/demo/suspend")
        .by(Caller::Operator)
        .send()
        .await;

    for caller in [Caller::Owner, Caller::Partner, Caller::Operator] {
        let shown = summary(&app, caller).await.body;
        let events = shown["lastEvents"].as_array().unwrap();

        assert_eq!(events.len(), 10, "{caller:?}");
        assert_eq!(events[0]["action"], "tenant.suspend");
        let seen = matches!(caller, Caller::Operator).then_some("operator@demo.test");
        assert_eq!(events[0]["actorEmail"].as_str(), seen, "{caller:?}");
        assert_eq!(events[0]["target"], "demo");
        assert_eq!(events[0]["outcome"], "accepted");
        assert_eq!(events[1]["action"], "tenant.update");
        assert_eq!(events[1]["actorEmail"], "owner@demo.test");
    }
    let shown = summary(&app, Caller::Member).await.body;
    assert!(shown.get("lastEvents").is_none());
}
