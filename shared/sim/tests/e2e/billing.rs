//! Billing of the demo tenant by card, as `cargo dev up` and `cargo dev stripe` show it.

use dezky_sim::{callers::DEMO_PARTNER, demo};
use jiff::Span;
use reqwest::Method;
use serde_json::json;

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
