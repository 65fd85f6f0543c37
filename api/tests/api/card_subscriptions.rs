//! Subscriptions by card: every change that concerns the payment provider is brought there by a job, and what keeps it from
//! charging is shown.

use bson::doc;
use dezky_shared::subscription::{Biller, EndedBy};
use serde_json::{Value, json};

use crate::app::TestApp;

/// The demo tenant with a subscription that is charged to a card, and its path.
async fn sold_by_card(app: &TestApp) -> String {
    let terms = json!({ "collectionMethod": "charge_automatically", "priceMinor": 49_900 });
    let sold = app.subscribe("demo", terms).await;
    assert_eq!(sold.status, 202, "{sold:?}");
    format!("/subscriptions/{}", sold.body["id"].as_str().unwrap())
}

/// The kind of the last job, which is then ended.
async fn last_kind(app: &TestApp) -> String {
    let job = app.jobs().await.pop().unwrap();
    app.set_job(job.id, doc! { "state": "completed" }).await;
    job.kind
}

#[tokio::test]
async fn each_change_of_a_card_subscription_is_brought_to_the_payment_provider() {
    let app = TestApp::with_billing().await;
    let path = sold_by_card(&app).await;
    let operator = app.operator();

    assert_eq!(last_kind(&app).await, "sync_billing");
    let sold = app.live_subscription().await;
    assert_eq!((sold.biller, sold.may_recreate), (Biller::Stripe, true));
    assert!(sold.is_enrolled());
    for change in [
        json!({ "priceMinor": 99_900 }),
        json!({ "cancelAtPeriodEnd": true }),
        json!({ "collectionMethod": "send_invoice" }),
    ] {
        let changed = operator.patch(&path, &change).await;
        assert_eq!(changed.status, 202, "{changed:?}");
        let job = &changed.body["job"];
        assert_eq!(changed.header("location"), job["href"].as_str());
        assert_eq!(last_kind(&app).await, "sync_billing");
    }
    let run = operator
        .post("/tenants/demo/billing/invoice", json!({}))
        .await;
    assert_eq!(run.summary(), "409 billed_by_stripe");
    let company = json!({ "company": "Demo A/S" });
    let info = operator.patch("/tenants/demo/billing-info", &company).await;
    assert_eq!(info.status, 200, "{info:?}");
    let id = app.jobs().await.pop().unwrap().id;
    assert_eq!(info.body["job"]["href"], format!("/jobs/{id}"));
    let shown = operator.get("/tenants/demo/billing-info").await;
    assert_eq!(shown.body, company);
    assert_eq!(last_kind(&app).await, "sync_billing");
    let ended = operator.delete(&path).await;
    assert_eq!(ended.status, 202, "{ended:?}");
    assert_eq!(ended.body["endedBy"], json!(EndedBy::Operator));
    assert_eq!(last_kind(&app).await, "sync_billing");
}

#[tokio::test]
async fn a_person_who_asks_for_a_sync_allows_another_subscription() {
    let app = TestApp::with_billing().await;
    sold_by_card(&app).await;
    last_kind(&app).await;
    let id = app.live_subscription().await.id;
    let created = doc! { "mayRecreate": false };
    app.set("subscriptions", doc! { "_id": id }, created).await;
    let path = "/tenants/demo/billing/sync";
    let sync = async |body: Value| {
        let reply = app.operator().post(path, body).await;
        assert_eq!(reply.status, 202, "{reply:?}");
        app.live_subscription().await.may_recreate
    };

    assert!(!sync(json!({ "dryRun": true })).await);
    assert!(sync(json!({})).await);
}

#[tokio::test]
async fn a_tenant_that_leaves_or_returns_is_synced() {
    let app = TestApp::with_billing().await;
    let operator = app.operator();

    let deleted = operator.delete("/tenants/demo?confirm=demo").await;
    let restored = operator.post_empty("/tenants/demo/restore").await;

    assert_eq!([deleted.status, restored.status], [202, 202]);
    let kinds = app.jobs().await.into_iter().map(|job| job.kind);
    // The second request joins the first job, which waits.
    let syncs = kinds.filter(|kind| kind == "sync_billing").count();
    assert_eq!(syncs, 1);
}

#[tokio::test]
async fn what_keeps_the_payment_provider_from_charging_is_shown() {
    let app = TestApp::with_billing().await;
    sold_by_card(&app).await;
    let sold = app.live_subscription().await;
    let set = async |fields| {
        app.set("subscriptions", doc! { "_id": sold.id }, fields)
            .await;
        app.billing().await["conditions"].clone()
    };

    let billing = app.billing().await;
    assert_eq!(billing["conditions"], json!(["NoPaymentMethod"]));
    assert_eq!(billing["nextInvoice"], Value::Null);
    assert_eq!(billing["subscription"]["biller"], "stripe");
    let card = doc! {
        "paymentMethodId": "pm_1", "brand": "visa", "last4": "4242", "expMonth": 4, "expYear": 2029,
    };
    let account = doc! {
        "_id": sold.tenant_id, "stripeCustomerId": "cus_1", "defaultCard": card, "refusedVatId": "DK1",
        "syncedAt": app.state.store.now(),
    };
    app.collection("billing_accounts")
        .insert_one(account)
        .await
        .unwrap();
    assert_eq!(
        app.billing().await["conditions"],
        json!(["BillingInfoRejected"])
    );
    let waiting = doc! {
        "status": "past_due", "stripeStatus": "incomplete", "needsAuthentication": true,
    };
    let waiting = set(waiting).await;
    let expected = json!(["BillingInfoRejected", "Incomplete", "ActionRequired"]);
    assert_eq!(waiting, expected);
    let late = doc! { "stripeStatus": "past_due", "needsAuthentication": false };
    assert_eq!(set(late).await, json!(["BillingInfoRejected", "PastDue"]));
    let edited = doc! { "status": "active", "stripeStatus": "active", "hasOtherItems": true };
    let expected = json!(["BillingInfoRejected", "OtherItems"]);
    assert_eq!(set(edited).await, expected);
}

/// A change within the period is prorated on the next invoice, which only the payment provider calculates.
#[tokio::test]
async fn the_next_invoice_has_the_amount_that_the_payment_provider_has_calculated() {
    let app = TestApp::with_billing().await;
    sold_by_card(&app).await;
    let sold = app.live_subscription().await;
    let charged = doc! { "stripeSubscriptionId": "sub_1", "stripeStatus": "active" };
    app.set("subscriptions", doc! { "_id": sold.id }, charged)
        .await;
    let next = doc! {
        "at": sold.invoiced_through, "currency": "DKK", "subtotalMinor": 133_771_i64,
    };
    let account = doc! {
        "_id": sold.tenant_id, "stripeCustomerId": "cus_1", "nextInvoice": next,
        "syncedAt": app.state.store.now(),
    };
    let accounts = app.collection("billing_accounts");
    accounts.insert_one(account).await.unwrap();

    let calculated = app.billing().await["nextInvoice"]["subtotalMinor"].clone();
    let later = doc! { "invoicedThrough": app.state.store.now() };
    app.set("subscriptions", doc! { "_id": sold.id }, later)
        .await;
    let of_another_period = app.billing().await["nextInvoice"]["subtotalMinor"].clone();

    assert_eq!(calculated, 133_771);
    assert_eq!(of_another_period, 49_900);
}
