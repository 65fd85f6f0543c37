//! Monthly subscription snapshots. The worker's tests cover how they are written.

use dezky_shared::id::{PartnerId, TenantId};
use dezky_shared::{
    billing::Plan,
    subscription::Subscription,
    subscription_snapshot::{SubscriptionSnapshot, TenantState},
    tenant::TenantStatus,
};
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply, tenant_health::subscribe};

fn snapshot(
    app: &TestApp,
    month: &str,
    subscription: Option<Subscription>,
) -> SubscriptionSnapshot {
    let tenant = TenantState {
        id: TenantId::new(),
        slug: "acme".to_owned(),
        status: TenantStatus::Active,
        plan: Plan::Business,
        partner_id: subscription.as_ref().map(|_| PartnerId::new()),
    };
    let now = app.state.store.now();
    SubscriptionSnapshot::new(month.parse().unwrap(), tenant, subscription, now)
}

async fn list(app: &TestApp, query: &str) -> Reply {
    let path = format!("/snapshots?{query}");
    app.operator().get(&path).await
}

#[tokio::test]
async fn snapshots_of_a_month_are_paginated() {
    let app = TestApp::with_operator().await;
    let mut november = Vec::new();
    for _ in 0..5 {
        november.push(snapshot(&app, "2026-11", None));
    }
    let snapshots = &app.state.db.snapshots;
    snapshots.renew(&november).await.unwrap();
    let october = [snapshot(&app, "2026-10", None)];
    snapshots.renew(&october).await.unwrap();

    let first = list(&app, "month=2026-11&limit=3").await.body;
    let cursor = first["nextCursor"].as_str().unwrap();
    let second = list(&app, &format!("month=2026-11&limit=3&cursor={cursor}")).await;
    let foreign = list(&app, &format!("month=2026-10&cursor={cursor}")).await;
    let before = list(&app, "month=2026-10").await.body;

    let items = |page: &Value| page["items"].as_array().unwrap().clone();
    let mut found = items(&first);
    found.extend(items(&second.body));
    let mut expected: Vec<String> = november
        .iter()
        .map(|snapshot| snapshot.id.to_string())
        .collect();
    expected.sort();
    let ids: Vec<&str> = found
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect();
    assert_eq!(ids, expected);
    assert_eq!(second.body["nextCursor"], Value::Null);
    assert_eq!(foreign.summary(), "400 invalid_cursor");
    assert_eq!(items(&before).len(), 1);
}

#[tokio::test]
async fn a_snapshot_shows_the_monthly_equivalent_price() {
    let app = TestApp::with_demo().await;
    let demo = app.tenant("demo").await.id;
    let fields = bson::doc! { "cycle": "quarterly", "priceMinor": 29_900_i64 };
    subscribe(&app, demo, fields).await;
    let live = app.state.db.subscriptions.list_live(&[demo]).await;
    let subscription = live.unwrap().remove(&demo).flatten();
    let taken = snapshot(&app, "2026-11", subscription);
    app.state.db.snapshots.renew(&[taken]).await.unwrap();

    let shown = list(&app, "month=2026-11").await.body;

    insta::assert_json_snapshot!(shown["items"][0], {
        ".id" => "[id]", ".tenantId" => "[id]", ".partnerId" => "[id]", ".subscription.id" => "[id]",
        ".takenAt" => "[time]",
    }, @r#"
    {
      "id": "[id]",
      "month": "2026-11",
      "partnerId": "[id]",
      "plan": "business",
      "slug": "acme",
      "subscription": {
        "currency": "DKK",
        "cycle": "quarterly",
        "id": "[id]",
        "monthlyMinor": 9967,
        "plan": "business",
        "priceMinor": 29900,
        "seats": 5,
        "status": "active"
      },
      "takenAt": "[time]",
      "tenantId": "[id]",
      "tenantStatus": "active"
    }
    "#);
}

#[tokio::test]
async fn the_month_parameter_is_required_and_validated() {
    let app = TestApp::with_operator().await;

    for query in [
        "",
        "month=",
        "month=2026",
        "month=2026-13",
        "month=2026-11-01",
    ] {
        let reply = list(&app, query).await;
        assert_eq!(reply.summary(), "400 invalid_request", "{query}");
        assert_eq!(reply.body["errors"][0]["parameter"], "month");
    }
    let none = list(&app, "month=2020-01").await;
    assert_eq!(none.body, json!({ "items": [], "nextCursor": null }));
}
