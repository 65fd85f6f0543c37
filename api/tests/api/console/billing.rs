//! Pages about money: billing, invoices, payouts and reports.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;
use serde_json::json;

use super::browser::{Browser, app};
use crate::reports::{add_up, sale};

#[tokio::test]
async fn a_payout_is_marked_as_paid_after_a_confirmation() {
    let app = app().await;
    let partner = app.with_partner("owner").await;
    let payout = app.add_payout(partner, 70_050).await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let list = browser.get("/console/payouts?status=pending").await;
    let path = format!("/console/payouts/{}/mark-paid", payout.id);

    let asked = browser
        .submit(&list, &path, &[("reference", "Bank 1")])
        .await;
    let pending = app.document("payouts", doc! {}).await;
    let confirmed = [
        ("reference", asked.hidden("reference")),
        ("confirmed", "yes"),
    ];
    let paid = browser.submit(&asked, &path, &confirmed).await;

    assert!(list.text.contains("700.50 DKK"), "{}", list.text);
    assert!(list.text.contains("/console/partners/"), "{}", list.text);
    assert!(asked.text.contains("No money is moved."), "{}", asked.text);
    assert_eq!(pending.get_str("status").unwrap(), "pending");
    assert_eq!(paid.location(), "/console/payouts?notice=payout-paid");
    let page = browser.get(paid.location()).await;
    assert!(page.text.contains("The payout is paid."), "{}", page.text);
    assert!(page.text.contains("Bank 1"), "{}", page.text);
    assert!(!page.text.contains("/mark-paid"), "{}", page.text);
    app.audit_event("payout.markPaid").await;
}

#[tokio::test]
async fn an_invoice_is_voided_with_a_reason() {
    let app = app().await;
    let body = json!({
        "lines": [{ "description": "Setup", "amountMinor": 4_990 }], "reason": "Agreed", "currency": "DKK",
    });
    let issued = app.operator().post("/tenants/demo/invoices", body).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    let id = issued.body["id"].as_str().unwrap();
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let list = browser.get("/console/invoices?status=open").await;
    let path = format!("/console/invoices/{id}/void");

    let fields = [
        ("tenant", "demo"),
        ("reason", "Wrong"),
        ("confirmed", "yes"),
    ];
    let escape = [
        ("tenant", "demo/../x"),
        ("reason", "Wrong"),
        ("confirmed", "yes"),
    ];
    let refused = browser.submit(&list, &path, &escape).await;
    let voided = browser.submit(&list, &path, &fields).await;

    assert!(list.text.contains("/console/tenants/demo"), "{}", list.text);
    assert!(list.text.contains("49.90 DKK"), "{}", list.text);
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    assert_eq!(voided.location(), "/console/invoices?notice=invoice-voided");
    let page = browser.get("/console/invoices?status=void").await;
    assert!(page.text.contains("49.90 DKK"), "{}", page.text);
    let billing = browser.get("/console/billing").await;
    assert!(billing.text.contains("49.90 DKK"), "{}", billing.text);
}

/// The API refuses them with `billed_by_stripe`, unless the payment provider sends an invoice of ours.
#[tokio::test]
async fn an_open_invoice_of_the_payment_provider_has_a_sentence_in_place_of_its_actions() {
    let app = app().await;
    let body = json!({
        "lines": [{ "description": "Setup", "amountMinor": 4_990 }], "reason": "Agreed", "currency": "DKK",
    });
    let issued = app.operator().post("/tenants/demo/invoices", body).await;
    assert_eq!(issued.status, 201, "{issued:?}");
    let stripe = doc! { "id": "in_1", "totalMinor": 4_990_i64, "amountRemainingMinor": 4_990_i64 };
    app.set("invoices", doc! {}, doc! { "stripe": stripe })
        .await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let sentence = "The payment provider issues this invoice.";

    let of_provider = browser.get("/console/invoices?status=open").await.text;
    app.set("invoices", doc! {}, doc! { "sentByStripe": true })
        .await;
    let sent = browser.get("/console/invoices?status=open").await.text;

    assert!(of_provider.contains("49.90 DKK"), "{of_provider}");
    assert!(of_provider.contains(sentence), "{of_provider}");
    for action in ["/mark-paid", "/void"] {
        assert!(!of_provider.contains(action), "{of_provider}");
        assert!(sent.contains(action), "{sent}");
    }
    assert!(!sent.contains(sentence), "{sent}");
}

#[tokio::test]
async fn a_report_has_a_chart_and_the_same_values_in_a_table() {
    let app = app().await;
    add_up(
        &app,
        &[
            ("2025-01", vec![sale(1, "DKK", 120_000)]),
            ("2025-02", vec![sale(1, "DKK", 240_000)]),
        ],
    )
    .await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;

    let page = browser
        .get("/console/reports/mrr?from=2024-12&to=2025-02")
        .await;
    let invalid = browser.get("/console/reports/mrr?from=nonsense").await;
    let file = browser
        .get("/console/reports/mrr/report.csv?from=2025-02&to=2025-02")
        .await;

    assert_eq!(page.status, StatusCode::OK, "{page:?}");
    assert!(page.text.contains("<svg role=\"img\""), "{}", page.text);
    assert!(
        page.text.contains("<title>2025-02: 200.00 DKK</title>"),
        "{}",
        page.text
    );
    assert!(
        page.text.contains("<caption>By month, DKK</caption>"),
        "{}",
        page.text
    );
    assert!(invalid.status.is_client_error());
    assert!(
        page.text
            .contains("/console/reports/mrr/report.csv?from=2024-12"),
        "{}",
        page.text
    );
    assert_eq!(file.status, StatusCode::OK, "{file:?}");
    let disposition = file.headers["content-disposition"].to_str().unwrap();
    assert_eq!(disposition, "attachment; filename=\"mrr.csv\"");
    assert!(
        file.text.contains("\"2025-02\",\"minor\",\"20000\""),
        "{}",
        file.text
    );
}
