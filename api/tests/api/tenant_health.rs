//! Tenant health in lists.

use bson::{Document, doc};
use dezky_shared::id::{SubscriptionId, TenantId};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{app::TestApp, client::without_messages};

/// Inserts a subscription directly into the database, with `fields` overriding the defaults.
pub(crate) async fn subscribe(app: &TestApp, tenant: TenantId, fields: Document) {
    let now = app.state.store.now();
    let mut subscription = doc! {
        "_id": SubscriptionId::new(), "tenantId": tenant, "plan": "business", "cycle": "monthly", "seats": 5,
        "currency": "DKK", "priceMinor": 49_900_i64, "status": "active", "revision": 1_i64, "createdAt": now,
        "updatedAt": now,
    };
    subscription.extend(fields);
    let subscriptions = app.collection("subscriptions");
    subscriptions.insert_one(subscription).await.unwrap();
}

/// Health of the listed tenants, by slug.
async fn health(app: &TestApp, caller: Caller) -> Value {
    let list = app.client(caller).get("/tenants").await;
    let items = list.items().iter();
    items
        .map(|tenant| {
            let slug = tenant["slug"].as_str().unwrap().to_owned();
            (slug, tenant["health"].clone())
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn the_tenant_list_shows_health_and_its_reasons() {
    let app = TestApp::with_demo().await;
    for slug in ["owing", "frozen", "broken", "keyless"] {
        app.create(slug).await;
    }
    let id = async |slug: &str| app.tenant(slug).await.id;
    subscribe(&app, id("demo").await, doc! {}).await;
    subscribe(&app, id("owing").await, doc! { "status": "past_due" }).await;
    let over = doc! { "status": "cancelled", "seats": 0 };
    subscribe(&app, id("frozen").await, over).await;
    app.set_tenant("frozen", doc! { "status": "suspended" })
        .await;
    app.set_tenant("broken", doc! { "provisioningStatus.stalwart": "error" })
        .await;
    let domains = app.collection("domains");
    for (tenant, status) in [("owing", "attention"), ("broken", "failed")] {
        let filter = doc! { "tenantId": id(tenant).await };
        let set = doc! { "$set": { "status": status } };
        domains.update_one(filter, set).await.unwrap();
    }

    let condition = doc! {
        "type": "Provisioned", "status": "false", "reason": "KeysMissing", "message": "",
        "observedGeneration": 1_i64, "lastTransitionAt": app.state.store.now(),
    };
    let keyless = doc! { "tenantId": id("keyless").await };
    let push = doc! { "$push": { "conditions": condition } };
    domains.update_one(keyless, push).await.unwrap();

    let found = health(&app, Caller::Operator).await;

    assert_eq!(
        without_messages(found),
        json!({
            "demo": { "status": "healthy", "reasons": [] },
            "owing": { "status": "attention", "reasons": [
                { "code": "domains_need_attention" }, { "code": "past_due" },
            ] },
            "keyless": { "status": "attention", "reasons": [{ "code": "domains_need_attention" }] },
            "frozen": { "status": "critical", "reasons": [{ "code": "suspended" }] },
            "broken": { "status": "critical", "reasons": [
                { "code": "steps_failed" }, { "code": "domains_failed" },
            ] },
        })
    );
}

#[tokio::test]
async fn only_users_with_a_role_use_seats() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let (demo, other) = (app.tenant("demo").await.id, app.tenant("other").await.id);
    // The owner and the member of `demo`.
    subscribe(&app, demo, doc! { "seats": 1 }).await;
    subscribe(&app, other, doc! { "seats": 0 }).await;

    let over = health(&app, Caller::Owner).await;
    let member = app.user(Caller::Member).await.id;
    app.set_tenant_roles(member, json!({ "demo": null })).await;
    let after = health(&app, Caller::Operator).await;

    assert_eq!(over["demo"]["status"], "attention");
    let reason = &over["demo"]["reasons"][0];
    assert_eq!(reason["code"], "seats_over_plan");
    let message = reason["message"].as_str().unwrap();
    assert!(message.contains('2') && message.contains('1'), "{message}");
    assert_eq!(after["demo"]["status"], "healthy");
    assert_eq!(after["other"]["status"], "healthy");
}

#[tokio::test]
async fn a_single_tenant_omits_health_because_its_etag_does_not_cover_it() {
    let app = TestApp::with_demo().await;

    let shown = app.owner().get("/tenants/demo").await;

    assert_eq!(shown.body["health"], Value::Null);
}
