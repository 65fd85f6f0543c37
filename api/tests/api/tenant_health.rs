//! How well tenants are, as lists show it.

use bson::{Document, doc};
use dezky_shared::id::{SubscriptionId, TenantId};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::TestApp;

/// A subscription, put into the database as it is; `fields` in the place of the usual ones.
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

/// The health of the tenants in the list, by slug.
async fn health(app: &TestApp, caller: Caller) -> Value {
    let list = app.get("/tenants").by(caller).send().await;
    let items = list.body["items"].as_array().unwrap().iter();
    items
        .map(|tenant| {
            let slug = tenant["slug"].as_str().unwrap().to_owned();
            (slug, tenant["health"].clone())
        })
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[tokio::test]
async fn the_list_says_how_well_each_tenant_is_and_why_not_better() {
    let app = TestApp::with_demo().await;
    for slug in ["owing", "frozen", "broken"] {
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

    let found = health(&app, Caller::Operator).await;

    assert_eq!(
        found,
        json!({
            "demo": { "status": "healthy", "reasons": [] },
            "owing": { "status": "attention", "reasons": [
                {
                    "code": "domains_need_attention",
                    "message": "The DNS of 1 domain is not in order any more.",
                },
                { "code": "past_due", "message": "An invoice is overdue." },
            ] },
            "frozen": { "status": "critical", "reasons": [
                { "code": "suspended", "message": "Nobody can sign in." },
            ] },
            "broken": { "status": "critical", "reasons": [
                { "code": "steps_failed", "message": "Not as it should be in stalwart." },
                { "code": "domains_failed", "message": "1 domain could not be proved." },
            ] },
        })
    );
}

#[tokio::test]
async fn people_with_a_role_use_seats_and_those_who_were_removed_do_not() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let (demo, other) = (app.tenant("demo").await.id, app.tenant("other").await.id);
    // The owner and the member of demo.
    subscribe(&app, demo, doc! { "seats": 1 }).await;
    subscribe(&app, other, doc! { "seats": 0 }).await;

    let over = health(&app, Caller::Owner).await;
    let member = app.user(Caller::Member).await.id;
    app.patch(&format!("/users/{member}"))
        .by(Caller::Operator)
        .json(&json!({ "tenantRoles": { "demo": null } }))
        .send()
        .await;
    let after = health(&app, Caller::Operator).await;

    assert_eq!(over["demo"]["status"], "attention");
    assert_eq!(
        over["demo"]["reasons"],
        json!([{ "code": "seats_over_plan", "message": "2 seats used, 1 bought." }])
    );
    assert_eq!(after["demo"]["status"], "healthy");
    assert_eq!(after["other"]["status"], "healthy");
}

#[tokio::test]
async fn a_tenants_version_does_not_speak_of_its_health_and_so_it_is_not_shown_there() {
    let app = TestApp::with_demo().await;

    let shown = app.get("/tenants/demo").by(Caller::Owner).send().await;

    assert_eq!(shown.body["health"], Value::Null);
}
