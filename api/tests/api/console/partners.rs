//! Partners: created, changed, terminated and restored on their pages.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;

use super::browser::{Browser, app};

const CONFIRMED: [(&str, &str); 1] = [("confirmed", "yes")];

#[tokio::test]
async fn a_partner_is_created_and_its_terms_are_changed() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let list = browser.get("/console/partners").await;
    let fields = [
        ("slug", "nordic"),
        ("name", "Nordic IT"),
        ("marginPct", "12.5"),
        ("supportEmail", "help@nordic.test"),
        ("defaultPlan", ""),
    ];

    let created = browser
        .submit(&list, "/console/partners/new/create", &fields)
        .await;
    let (page, stale) = (
        browser.get("/console/partners/nordic").await,
        browser.get("/console/partners/nordic").await,
    );
    let terms = [
        ("name", "Nordic"),
        ("marginPct", "10"),
        ("supportEmail", ""),
        ("defaultPlan", "business"),
        ("revision", page.hidden("revision")),
    ];
    let path = "/console/partners/nordic/update";
    let updated = browser.submit(&page, path, &terms).await;
    let overwritten = browser.submit(&stale, path, &terms).await;

    assert_eq!(
        created.location(),
        "/console/partners/nordic?notice=partner-created"
    );
    assert!(page.text.contains("12.5 %"), "{}", page.text);
    assert_eq!(
        updated.location(),
        "/console/partners/nordic?notice=partner-updated"
    );
    assert_eq!(overwritten.status, StatusCode::PRECONDITION_FAILED);
    let stored = app.document("partners", doc! { "slug": "nordic" }).await;
    assert_eq!(stored.get_str("name").unwrap(), "Nordic");
    assert_eq!(stored.get_i32("marginBasisPoints").unwrap(), 1_000);
    assert_eq!(stored.get_str("defaultPlan").unwrap(), "business");
    assert!(stored.get_str("supportEmail").is_err());
    app.audit_event("partner.update").await;
}

#[tokio::test]
async fn a_partner_is_terminated_after_a_confirmation_and_restored() {
    let app = app().await;
    app.insert_partner("nordic", "active").await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/partners/nordic").await;
    let terminate = "/console/partners/nordic/terminate";

    let asked = browser.submit(&page, terminate, &[]).await;
    let before = app.document("partners", doc! { "slug": "nordic" }).await;
    let terminated = browser.submit(&asked, terminate, &CONFIRMED).await;
    let page = browser.open(terminated.location()).await;
    let restored = browser
        .submit(&page, "/console/partners/nordic/restore", &[])
        .await;

    assert_eq!(before.get_str("status").unwrap(), "active");
    assert!(
        page.text.contains("The partner is terminated."),
        "{}",
        page.text
    );
    assert_eq!(
        restored.location(),
        "/console/partners/nordic?notice=partner-restored"
    );
    let after = app.document("partners", doc! { "slug": "nordic" }).await;
    assert_eq!(after.get_str("status").unwrap(), "active");
}

#[tokio::test]
async fn the_contact_of_a_partner_is_changed_without_its_terms() {
    let app = app().await;
    app.insert_partner("nordic", "active").await;
    let support = doc! { "supportEmail": "help@nordic.test" };
    app.set("partners", doc! { "slug": "nordic" }, support)
        .await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/partners/nordic").await;
    let path = "/console/partners/nordic/contact";
    let fields = |phone| {
        [
            ("contactName", "Ada King"),
            ("contactEmail", ""),
            ("contactPhone", phone),
            ("revision", page.hidden("revision")),
        ]
    };

    let refused = browser.submit(&page, path, &fields("12")).await;
    let retried = browser.get("/console/partners/nordic").await;
    let saved = browser.submit(&retried, path, &fields("+4512345678")).await;
    let shown = browser.open(saved.location()).await;

    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(
        saved.location(),
        "/console/partners/nordic?notice=partner-contact-saved"
    );
    assert!(
        shown.text.contains("Ada King, +4512345678"),
        "{}",
        shown.text
    );
    let stored = app.document("partners", doc! { "slug": "nordic" }).await;
    let contact = stored.get_document("contactInfo").unwrap();
    assert_eq!(contact.get_str("phone").unwrap(), "+4512345678");
    assert!(contact.get_str("email").is_err());
    assert_eq!(stored.get_str("supportEmail").unwrap(), "help@nordic.test");
}

#[tokio::test]
async fn a_payout_is_requested_for_what_a_partner_is_owed() {
    let app = app().await;
    let partner = app.insert_partner("nordic", "active").await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let path = "/console/partners/nordic/payout";
    let fields = [("currency", "DKK"), ("month", "2025-01"), CONFIRMED[0]];

    let page = browser.get("/console/partners/nordic").await;
    let refused = browser.submit(&page, path, &fields).await;
    let owed = doc! {
        "_id": format!("{partner}/DKK"), "partnerId": partner, "currency": "DKK",
        "unsettledMinor": 700_i64, "pendingMinor": 0_i64,
    };
    app.collection("partner_balances")
        .insert_one(owed)
        .await
        .unwrap();
    let page = browser.get("/console/partners/nordic").await;
    let requested = browser.submit(&page, path, &fields).await;

    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.text.contains("owed nothing"), "{}", refused.text);
    let job = app.jobs().await.pop().unwrap();
    assert_eq!(job.kind, "close_payouts");
    let target = format!("/console/jobs/{}?notice=payout-requested", job.id);
    assert_eq!(requested.location(), target);
}
