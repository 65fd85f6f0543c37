//! Subscriptions.

use bson::doc;
use dezky_shared::{
    id::SubscriptionId, platform::clock, store::subscriptions::SubscriptionRepository,
};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    client::{Reply, send_all, sorted_summaries},
    personas::Persona,
};

async fn set(app: &TestApp, subscription: &Value, body: Value) -> Reply {
    app.operator().patch(path(subscription), &body).await
}

async fn cancel(app: &TestApp, subscription: &Value) -> Reply {
    app.operator().delete(path(subscription)).await
}

async fn show(app: &TestApp, subscription: &Value) -> Reply {
    app.operator().get(path(subscription)).await
}

fn path(subscription: &Value) -> String {
    format!("/subscriptions/{}", subscription["id"].as_str().unwrap())
}

#[tokio::test]
async fn a_subscription_is_created() {
    let app = TestApp::with_demo().await;
    let fields =
        json!({ "startedAt": "2026-01-31T10:00:00Z", "renewsAt": "2027-01-31T10:00:00+01:00" });

    let sold = app.subscribe("demo", fields).await;

    assert_eq!((sold.status.as_u16(), sold.etag()), (201, "\"1.1\""));
    assert_eq!(sold.header("location").unwrap(), path(&sold.body));
    assert_eq!(show(&app, &sold.body).await.body, sold.body);
    insta::assert_json_snapshot!(sold.body, {
        ".id" => "[id]", ".tenantId" => "[id]", ".createdAt" => "[time]", ".updatedAt" => "[time]",
    }, @r#"
    {
      "createdAt": "[time]",
      "currency": "DKK",
      "cycle": "monthly",
      "id": "[id]",
      "plan": "business",
      "priceMinor": 49900,
      "renewsAt": "2027-01-31T09:00:00.000Z",
      "revision": 1,
      "seats": 5,
      "startedAt": "2026-01-31T10:00:00.000Z",
      "status": "active",
      "tenant": "demo",
      "tenantId": "[id]",
      "updatedAt": "[time]"
    }
    "#);
    let event = app.audit_event("subscription.create").await;
    assert_eq!(
        event.get("tenantId"),
        Some(&app.tenant("demo").await.id.into())
    );
    let target = event.get_document("target").unwrap();
    assert_eq!(target.get_str("name").unwrap(), "demo");
}

#[tokio::test]
async fn a_subscription_accepts_a_tenant_id_and_fills_in_defaults() {
    let app = TestApp::with_demo().await;
    let id = app.tenant("demo").await.id.to_string();

    let sold = app.subscribe(&id, json!({})).await;

    assert_eq!(sold.body["tenant"], "demo");
    let time = |field: &str| {
        sold.body[field]
            .as_str()
            .unwrap()
            .parse::<jiff::Timestamp>()
    };
    let (started, renews) = (time("startedAt").unwrap(), time("renewsAt").unwrap());
    let days = renews.duration_since(started).as_hours() / 24;
    assert!((28..=31).contains(&days), "{days}");
}

#[tokio::test]
async fn concurrent_creations_leave_one_live_subscription() {
    let app = TestApp::with_demo().await;

    let replies = join_all((0..8).map(|_| app.subscribe("demo", json!({})))).await;

    let found = sorted_summaries(&replies);
    assert_eq!(found[0], "201");
    assert!(
        found[1..]
            .iter()
            .all(|reply| reply == "409 subscription_exists"),
        "{found:?}"
    );
    let sold = replies.iter().find(|reply| reply.status == 201).unwrap();
    let overdue = set(&app, &sold.body, json!({ "status": "past_due" })).await;
    let second = app.subscribe("demo", json!({})).await;
    cancel(&app, &sold.body).await;
    let third = app.subscribe("demo", json!({})).await;
    assert_eq!(overdue.body["status"], "past_due");
    assert_eq!(second.summary(), "409 subscription_exists");
    assert_eq!(third.summary(), "201");
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let sold = app.subscribe("demo", json!({})).await.body;
    let invalid = json!({
        "tenant": "No tenant!", "plan": "gold", "cycle": "weekly", "seats": 0, "currency": "dkk",
        "priceMinor": -1, "startedAt": "yesterday", "renewsAt": "2026-13-01",
    });
    let mut patch = invalid.clone();
    patch.as_object_mut().unwrap().remove("tenant");
    patch["status"] = json!("cancelled");

    let new = app.subscribe("demo", invalid).await;
    let changed = set(&app, &sold, patch).await;

    let [tenant, status] = [("/tenant", "invalid_tenant"), ("/status", "invalid_status")];
    let expected = [
        ("/plan", "invalid_plan"),
        ("/cycle", "invalid_cycle"),
        ("/seats", "out_of_range"),
        ("/currency", "invalid_currency"),
        ("/priceMinor", "out_of_range"),
        ("/startedAt", "invalid_time"),
        ("/renewsAt", "invalid_time"),
    ];
    let (before, after) = expected.split_at(5);
    assert_eq!(new.errors(), [&[tenant], expected.as_slice()].concat());
    assert_eq!(changed.errors(), [before, &[status], after].concat());
    assert_eq!(app.count("subscriptions").await, 1);
    assert_eq!(show(&app, &sold).await.body, sold);
    for (fields, expected) in [
        (json!({ "seats": 100_001 }), "422 validation_failed"),
        (
            json!({ "priceMinor": 1_000_000_000_001_i64 }),
            "422 validation_failed",
        ),
        (json!({ "currency": "XXX" }), "422 validation_failed"),
        (json!({ "tenant": "nowhere" }), "422 validation_failed"),
        (
            json!({ "tenant": SubscriptionId::new().to_string() }),
            "422 validation_failed",
        ),
        (
            json!({ "renewsAt": "2020-01-01T00:00:00Z" }),
            "422 validation_failed",
        ),
        (json!({ "seats": 1.5 }), "400 invalid_request"),
        (json!({ "seats": 1e30 }), "400 invalid_request"),
        (json!({ "status": "active" }), "400 invalid_request"),
        (
            json!({ "stripeSubscriptionId": "sub_1" }),
            "400 invalid_request",
        ),
    ] {
        let reply = app.subscribe("demo", fields.clone()).await;
        assert_eq!(reply.summary(), expected, "{fields}");
    }
}

#[tokio::test]
async fn a_terminating_tenant_cannot_get_a_subscription() {
    let app = TestApp::with_demo().await;

    for (status, expected) in [
        ("terminating", "409 tenant_terminating"),
        ("terminated", "409 tenant_terminated"),
    ] {
        app.set_tenant("demo", doc! { "status": status }).await;
        let reply = app.subscribe("demo", json!({})).await;
        assert_eq!(reply.summary(), expected);
    }
}

#[tokio::test]
async fn a_subscription_defaults_to_the_list_price() {
    let app = TestApp::with_demo().await;
    app.set_price("business", "monthly", "DKK", 12_300).await;
    app.set_price("business", "yearly", "DKK", 120_000).await;
    let sell = async |fields: Value| {
        let mut body = json!({
            "tenant": "demo", "plan": "business", "cycle": "monthly", "seats": 5, "currency": "DKK",
        });
        body.as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        app.operator().post("/subscriptions", body).await
    };

    let unlisted = sell(json!({ "currency": "EUR" })).await;
    let sold = sell(json!({})).await;
    let yearly = set(&app, &sold.body, json!({ "cycle": "yearly" })).await;
    let more = set(&app, &sold.body, json!({ "seats": 9 })).await;
    let own = set(
        &app,
        &sold.body,
        json!({ "currency": "EUR", "priceMinor": 7 }),
    )
    .await;
    let none = set(&app, &sold.body, json!({ "plan": "enterprise" })).await;

    assert_eq!(unlisted.errors(), [("/priceMinor", "no_price")]);
    assert_eq!(sold.body["priceMinor"], 12_300);
    assert_eq!(yearly.body["priceMinor"], 120_000);
    assert_eq!(
        (&more.body["priceMinor"], &more.body["seats"]),
        (&json!(120_000), &json!(9))
    );
    assert_eq!(own.body["priceMinor"], 7);
    assert_eq!(none.errors(), [("/priceMinor", "no_price")]);
    assert_eq!(show(&app, &sold.body).await.body, own.body);
}

#[tokio::test]
async fn a_subscription_does_not_change_the_tenants_plan() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;

    app.subscribe("demo", json!({ "plan": "enterprise" })).await;

    assert_eq!(app.tenant("demo").await, before);
}

#[tokio::test]
async fn a_cancelled_subscription_is_read_only() {
    let app = TestApp::with_demo().await;
    let sold = app.subscribe("demo", json!({})).await.body;
    let once = app.operator().delete(path(&sold)).idempotency_key("k");

    let cancelled = once.clone().await;
    let replayed = once.await;
    let again = cancel(&app, &sold).await;
    let changed = set(&app, &sold, json!({ "seats": 6 })).await;

    assert_eq!(cancelled.body["status"], "cancelled");
    assert!(cancelled.body["cancelledAt"].is_string());
    assert!(cancelled.body["renewsAt"].is_null());
    assert!(replayed.is_replayed());
    assert_eq!((again.status.as_u16(), &again.body), (200, &cancelled.body));
    assert_eq!(changed.summary(), "409 subscription_cancelled");
    assert_eq!(show(&app, &sold).await.body, cancelled.body);
    let events = app.actions().await;
    let cancels = events.iter().filter(|it| *it == "subscription.delete");
    assert_eq!(cancels.count(), 1);
}

#[tokio::test]
async fn concurrent_subscription_edits_of_one_version_have_one_winner() {
    let app = TestApp::with_demo().await;
    let sold = app.subscribe("demo", json!({})).await;
    let seats = |n: usize| {
        app.operator()
            .patch(path(&sold.body), json!({ "seats": n }))
            .if_match(sold.etag())
    };

    let raced = send_all((10..20).map(seats)).await;
    let price = set(&app, &sold.body, json!({ "priceMinor": 1 })).await;
    let removed = set(&app, &sold.body, json!({ "renewsAt": null })).await;

    let won: Vec<&Reply> = raced.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(won.len(), 1, "{raced:?}");
    assert_eq!(price.body["seats"], won[0].body["seats"]);
    assert_eq!(removed.body["priceMinor"], 1);
    assert!(removed.body["renewsAt"].is_null());
}

#[tokio::test]
async fn callers_see_the_subscriptions_of_their_tenants() {
    let app = TestApp::with_personas().await;
    app.subscribe("demo", json!({})).await;
    app.subscribe("other", json!({ "plan": "starter" })).await;
    let list = async |persona: Persona, filters: &str| {
        let path = format!("/subscriptions{filters}");
        let reply = app.client(persona).get(&path).await;
        let items = reply.items().iter();
        items
            .map(|it| it["tenant"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };

    for persona in [Persona::Member, Persona::Owner, Persona::PartnerReadOnly] {
        assert_eq!(list(persona, "").await, ["demo"], "{persona:?}");
    }
    for persona in [Persona::OtherMember, Persona::OtherPartner] {
        assert_eq!(list(persona, "").await, ["other"], "{persona:?}");
    }
    for persona in [
        Persona::Stranger,
        Persona::FormerPartner,
        Persona::OperatorWithoutFlag,
        Persona::FlagWithoutAudience,
    ] {
        assert!(list(persona, "").await.is_empty(), "{persona:?}");
    }
    assert_eq!(list(Persona::Operator, "").await, ["demo", "other"]);
    for (filters, expected) in [
        ("?tenant=other", &["other"] as &[&str]),
        ("?plan=business", &["demo"]),
        ("?status=active", &["demo", "other"]),
        ("?status=cancelled", &[]),
        ("?tenant=nowhere", &[]),
        ("?tenant=other&plan=business", &[]),
    ] {
        assert_eq!(
            list(Persona::Operator, filters).await,
            expected,
            "{filters}"
        );
    }
    assert!(list(Persona::Member, "?tenant=other").await.is_empty());
    let odd = app.operator().get("/subscriptions?status=odd").await;
    assert_eq!(odd.summary(), "400 invalid_request");
}

#[tokio::test]
async fn an_obsolete_index_is_dropped_and_the_others_are_kept() {
    let app = TestApp::start().await;
    let collection = app.collection("subscriptions");
    let former = mongodb::IndexModel::builder()
        .keys(doc! { "tenantId": 1 })
        .options(
            mongodb::options::IndexOptions::builder()
                .name("one_active_per_tenant".to_owned())
                .unique(true)
                .partial_filter_expression(doc! { "status": "active" })
                .build(),
        )
        .build();
    let before = collection.list_index_names().await.unwrap();
    collection.create_index(former).await.unwrap();
    let subscriptions = SubscriptionRepository::new(&app.state.store);

    subscriptions.ensure_indexes().await.unwrap();
    subscriptions.ensure_indexes().await.unwrap();

    assert_eq!(collection.list_index_names().await.unwrap(), before);
    assert!(before.contains(&"one_live_per_tenant".to_owned()));
}

#[tokio::test]
async fn a_subscription_written_by_an_earlier_build_can_be_read_and_updated() {
    let app = TestApp::with_demo().await;
    let id = SubscriptionId::new();
    let now = clock::now();
    let document = doc! {
        "_id": id, "tenantId": app.tenant("demo").await.id, "plan": "starter", "cycle": "yearly", "seats": 3,
        "currency": "DKK", "priceMinor": 0_i64, "status": "active", "revision": 1_i64, "createdAt": now,
        "updatedAt": now, "fromTheFuture": "kept",
    };
    let subscriptions = app.collection("subscriptions");
    subscriptions.insert_one(document).await.unwrap();

    let changed = set(
        &app,
        &json!({ "id": id.to_string() }),
        json!({ "seats": 4 }),
    )
    .await;

    assert_eq!(changed.body["seats"], 4);
    let stored = subscriptions.find_one(doc! { "_id": id }).await;
    let stored = stored.unwrap().unwrap();
    assert_eq!(stored.get_str("fromTheFuture").unwrap(), "kept");
}

#[tokio::test]
async fn stripe_sends_invoices_only_over_an_amount_that_it_can_charge() {
    let app = TestApp::with_demo().await;
    let terms =
        json!({ "collectionMethod": "send_invoice", "currency": "KWD", "priceMinor": 5_120 });

    let sold = app.subscribe("demo", terms).await.body;
    let refused = set(&app, &sold, json!({ "priceMinor": 5_125 })).await;
    let manual = json!({ "collectionMethod": "manual", "priceMinor": 5_125 });
    let manual = set(&app, &sold, manual).await;

    assert_eq!(sold["collectionMethod"], "send_invoice");
    assert_eq!(refused.errors(), [("/priceMinor", "amount_not_chargeable")]);
    assert_eq!(manual.status, 200, "{manual:?}");
}
