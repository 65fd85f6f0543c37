//! Billing of the demo tenant by card, as `cargo dev up` and `cargo dev stripe` show it.

use dezky_sim::{callers::DEMO_PARTNER, demo, stripe::WebhookTarget};
use jiff::Span;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::{Stack, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_demo_tenant_is_charged_each_month_and_its_partner_gets_a_share() {
    let stack = Stack::start_with_stripe().await;
    let control = stack.serve_control().await;
    let say = |line: &str| tracing::info!(line);
    let stored = stack.stored();
    let stripe = &stack.simulators.stripe;

    demo::provision(&stack.url, &control, Some(&stored), say)
        .await
        .unwrap();
    let first = demo::advance(&stack.url, &control, Span::new().days(32), say);
    let first = first.await.unwrap();
    // A restart keeps what exists.
    demo::provision(&stack.url, &control, Some(&stored), say)
        .await
        .unwrap();
    let cards = replace_card(&stack).await;
    let second = demo::advance(&stack.url, &control, Span::new().days(32), say);
    let second = second.await.unwrap();
    let none = demo::advance(&stack.url, &control, Span::new().hours(1), say);
    let none = none.await.unwrap();

    // An eighth of DKK 499.00.
    for renewal in first.iter().chain(&second) {
        assert_eq!(renewal.status, "paid");
        assert_eq!(renewal.accrued_minor, Some(6_238), "{renewal:?}");
    }
    assert_eq!((first.len(), second.len(), none.len()), (1, 1, 0));
    assert_eq!(stripe.objects("subscription").len(), 1);
    assert_eq!(stripe.objects("invoice").len(), 3);
    let charged = stripe.objects("charge");
    let charged: Vec<&Value> = charged.iter().map(|it| &it["payment_method"]).collect();
    assert_eq!(charged, [&cards[0], &cards[0], &cards[1]]);
    let (_, billing) = stack.ask(Method::GET, "/tenants/demo/billing", None).await;
    assert_eq!(billing["defaultCard"]["last4"], "4444");
    assert_eq!(billing["conditions"], json!([]));
    let path = format!("/partners/{DEMO_PARTNER}/balances");
    let (_, balances) = stack.ask(Method::GET, &path, None).await;
    let balance = &balances["items"][0];
    assert_eq!(balance["accruedMinor"], 3 * 6_238);
    assert_eq!(balance["paidOutMinor"], 125_000);
}

/// Enters another card, and sets it. The subscription was given the card before in the dashboard, which would be charged
/// instead (laravel/cashier-stripe#1650). Returns both cards.
async fn replace_card(stack: &Stack) -> [Value; 2] {
    let stripe = &stack.simulators.stripe;
    let default_card = || {
        let customer = stripe.objects("customer").remove(0);
        customer["invoice_settings"]["default_payment_method"].clone()
    };
    let before = default_card();
    let subscription = stripe.objects("subscription").remove(0);
    let own = [("default_payment_method", before.as_str().unwrap())];
    stripe
        .edit_subscription(subscription["id"].as_str().unwrap(), &own)
        .unwrap();
    let path = "/tenants/demo/payment-method";
    let request = stack.request(Method::POST, &format!("{path}/setup-intents"));
    let begun = request.header("prefer", "wait=25").send().await.unwrap();
    assert_eq!(begun.status(), StatusCode::CREATED);
    let intent: Value = begun.json().await.unwrap();
    let id = intent["setupIntentId"].as_str().unwrap();
    stripe.enter_card(id, "pm_card_mastercard").unwrap();
    let chosen = json!({ "setupIntentId": id });
    let (status, set) = stack.ask(Method::PUT, path, Some(chosen)).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{set}");
    until("the subscription has no card of its own", || {
        let subscription = stripe.objects("subscription").remove(0);
        default_card() != before && subscription["default_payment_method"].is_null()
    })
    .await;
    [before, default_card()]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_without_an_event_is_seen_by_a_refresh() {
    let stack = Stack::start_with_stripe().await;
    let control = stack.serve_control().await;
    let say = |line: &str| tracing::info!(line);
    demo::provision(&stack.url, &control, None, say)
        .await
        .unwrap();
    let stripe = &stack.simulators.stripe;
    let invoice = stripe.objects("invoice").remove(0);
    // The endpoint accepts nothing: every event is lost.
    stripe.register_endpoint(WebhookTarget {
        url: format!("{}/nowhere", stack.url),
        secrets: Vec::new(),
    });
    let refunded = stripe.refund(invoice["id"].as_str().unwrap(), 9_900);
    refunded.unwrap();

    let (_, invoices) = stack.ask(Method::GET, "/tenants/demo/invoices", None).await;
    let id = invoices["items"][0]["id"].as_str().unwrap();
    let refresh = stack
        .request(
            Method::POST,
            &format!("/tenants/demo/invoices/{id}/refresh"),
        )
        .header("prefer", "wait=25");
    let refreshed = refresh.send().await.unwrap();

    assert_eq!(refreshed.status(), StatusCode::OK);
    let refreshed: Value = refreshed.json().await.unwrap();
    assert_eq!(refreshed["job"]["state"], "completed");
    let reduction = &refreshed["reductions"][0];
    assert_eq!(reduction["netMinor"], 9_900, "{refreshed:#}");
}
