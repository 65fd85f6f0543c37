//! Billing of the demo tenant by card, as `cargo dev up` and `cargo dev stripe` show it.

use dezky_sim::{callers::DEMO_PARTNER, demo, stripe::WebhookTarget};
use jiff::Span;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::stack::Stack;

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
    let (_, billing) = stack.ask(Method::GET, "/tenants/demo/billing", None).await;
    assert_eq!(billing["defaultCard"]["last4"], "4242");
    assert_eq!(billing["conditions"], json!([]));
    let path = format!("/partners/{DEMO_PARTNER}/balances");
    let (_, balances) = stack.ask(Method::GET, &path, None).await;
    let balance = &balances["items"][0];
    assert_eq!(balance["accruedMinor"], 3 * 6_238);
    assert_eq!(balance["paidOutMinor"], 125_000);
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
