//! The price list.

use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::{Reply, sorted_summaries};

async fn set(app: &TestApp, price: &Value, body: Value) -> Reply {
    app.operator().patch(path(price), &body).await
}

fn path(price: &Value) -> String {
    format!("/prices/{}", price["id"].as_str().unwrap())
}

#[tokio::test]
async fn plans_list_prices_and_stripe_ids_by_currency() {
    let app = TestApp::with_demo().await;
    app.set_price("starter", "yearly", "DKK", 99_000).await;
    app.set_price("starter", "monthly", "DKK", 9_900).await;
    let euro = app.set_price("starter", "monthly", "EUR", 1_300).await;
    set(&app, &euro.body, json!({ "stripePriceId": "price_1Abc" })).await;

    let plans = app.stranger().get("/plans").await;

    assert_eq!(
        plans.body,
        json!({
            "items": [
                {
                    "plan": "starter", "spaceQuota": 100_000_000_000_u64, "mailboxQuota": 10_000_000_000_u64,
                    "cycles": [
                        {
                            "cycle": "monthly", "prices": { "DKK": 9_900, "EUR": 1_300 },
                            "stripePriceIds": { "EUR": "price_1Abc" },
                        },
                        { "cycle": "yearly", "prices": { "DKK": 99_000 }, "stripePriceIds": {} },
                    ],
                },
                { "plan": "business", "spaceQuota": 500_000_000_000_u64, "mailboxQuota": 50_000_000_000_u64, "cycles": [] },
                { "plan": "enterprise", "spaceQuota": 2_000_000_000_000_u64, "mailboxQuota": 100_000_000_000_u64, "cycles": [] },
            ],
            "nextCursor": null,
        })
    );
}

#[tokio::test]
async fn a_price_is_unique_per_plan_cycle_and_currency() {
    let app = TestApp::with_demo().await;

    let replies = join_all((0..6).map(|n| app.set_price("business", "monthly", "DKK", n))).await;
    let other = app.set_price("business", "monthly", "EUR", 1).await;

    let found = sorted_summaries(&replies);
    assert_eq!(found[0], "201");
    assert!(
        found[1..].iter().all(|reply| reply == "409 price_exists"),
        "{found:?}"
    );
    assert_eq!(other.status, 201);
    assert_eq!(app.count("prices").await, 2);
}

#[tokio::test]
async fn a_price_is_created_updated_and_deleted() {
    let app = TestApp::with_demo().await;
    let new = app.set_price("business", "quarterly", "DKK", 100).await;
    let sold = app
        .subscribe("demo", json!({ "cycle": "quarterly", "priceMinor": 100 }))
        .await;

    let listed = app.operator().get("/prices").await;
    let changed = set(
        &app,
        &new.body,
        json!({ "amountMinor": 200, "stripePriceId": "price_1" }),
    )
    .await;
    let same = set(&app, &new.body, json!({ "amountMinor": 200 })).await;
    let removed = set(&app, &new.body, json!({ "stripePriceId": null })).await;
    let stale = app
        .operator()
        .delete(path(&new.body))
        .if_match(new.etag())
        .await;
    let gone = app.operator().delete(path(&new.body)).await;
    let shown = app.operator().get(path(&new.body)).await;

    assert_eq!(new.header("location").unwrap(), path(&new.body));
    assert_eq!(listed.body["items"], json!([new.body]));
    assert_eq!((changed.etag(), same.etag()), ("\"2.2\"", "\"2.2\""));
    assert_eq!(changed.body["stripePriceId"], "price_1");
    assert!(removed.body["stripePriceId"].is_null());
    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(gone.body, removed.body);
    assert_eq!(shown.summary(), "404 not_found");
    let subscription = format!("/subscriptions/{}", sold.body["id"].as_str().unwrap());
    let subscription = app.operator().get(&subscription).await;
    assert_eq!(
        subscription.body, sold.body,
        "the subscription keeps its price"
    );
    let actions = app.actions().await;
    let of_prices: Vec<&String> = actions
        .iter()
        .filter(|it| it.starts_with("price."))
        .collect();
    assert_eq!(
        of_prices,
        [
            "price.create",
            "price.update",
            "price.update",
            "price.delete"
        ]
    );
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let price = app.set_price("business", "monthly", "DKK", 1).await.body;
    let invalid = json!({
        "plan": "gold", "cycle": "daily", "currency": "HRK", "amountMinor": 1_000_000_000_001_i64,
        "stripePriceId": "prod_1",
    });

    let new = app.operator().post("/prices", &invalid).await;
    let changed = set(
        &app,
        &price,
        json!({ "amountMinor": -1, "stripePriceId": "price_ä" }),
    )
    .await;
    let moved = set(&app, &price, json!({ "currency": "EUR" })).await;

    let [amount, id] = [
        ("/amountMinor", "out_of_range"),
        ("/stripePriceId", "invalid_stripe_id"),
    ];
    let expected = [
        ("/plan", "invalid_plan"),
        ("/cycle", "invalid_cycle"),
        ("/currency", "invalid_currency"),
        amount,
        id,
    ];
    assert_eq!(new.errors(), expected);
    assert_eq!(changed.errors(), [amount, id]);
    assert_eq!(
        moved.summary(),
        "400 invalid_request",
        "the currency is immutable"
    );
    assert_eq!(app.count("prices").await, 1);
}
