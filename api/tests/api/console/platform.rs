//! Flags, partners, and what a role that only reads sees.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;
use serde_json::json;

use super::browser::{Browser, app};

#[tokio::test]
async fn the_flags_of_a_tenant_are_shown_with_the_rules() {
    let app = app().await;
    let flag = json!({
        "key": "beta", "description": "Beta.", "default": false,
        "rules": [{ "tenants": ["demo"], "value": true }, { "percentage": 20, "value": false }],
    });
    let created = app.operator().post("/flags", flag).await;
    assert_eq!(created.status, 201, "{created:?}");
    app.create("acme").await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;

    let demo = browser.get("/console/flags?tenant=demo").await;
    let acme = browser.get("/console/flags?tenant=acme").await;
    let missing = browser.get("/console/flags?tenant=missing").await;

    assert!(demo.text.contains("off: 20 % of tenants"), "{}", demo.text);
    assert!(
        demo.text.contains("Values for the tenant demo"),
        "{}",
        demo.text
    );
    let on = r#"<span aria-hidden="true">✓</span> on<"#;
    assert_eq!(
        demo.text.matches(on).count(),
        acme.text.matches(on).count() + 1
    );
    assert_eq!(missing.status, StatusCode::OK);
    assert!(missing.text.contains("Not found"), "{}", missing.text);
}

#[tokio::test]
async fn a_partner_is_shown_with_its_tenants() {
    let app = app().await;
    let partner = app.with_partner("owner").await;
    let slug = doc! { "slug": "nordic", "marginBasisPoints": 1_250 };
    app.set("partners", doc! { "_id": partner }, slug).await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;

    let list = browser.get("/console/partners?status=active").await;
    let page = browser.get("/console/partners/nordic").await;

    assert!(
        list.text.contains("/console/partners/nordic"),
        "{}",
        list.text
    );
    assert!(list.text.contains("12.5 %"), "{}", list.text);
    assert!(page.text.contains("/console/tenants/demo"), "{}", page.text);
}

#[tokio::test]
async fn a_viewer_sees_every_page_without_a_form_of_an_action() {
    let app = app().await;
    let partner = app.with_partner("owner").await;
    let payout = app.add_payout(partner, 700).await.id;
    let id = app.user(Caller::OperatorWithoutFlag).await.id;
    app.set_user(id, doc! { "platformRole": "viewer" }).await;
    let mut viewer = Browser::signed_in(&app, Caller::OperatorWithoutFlag).await;
    let job = app.first_job().await;

    for path in [
        "/console".to_owned(),
        "/console/jobs?state=available".to_owned(),
        format!("/console/jobs/{job}"),
        "/console/operations".to_owned(),
        "/console/queues".to_owned(),
        "/console/upstreams".to_owned(),
        "/console/schedules".to_owned(),
        "/console/workers".to_owned(),
        "/console/tenants".to_owned(),
        "/console/tenants/demo".to_owned(),
        "/console/partners".to_owned(),
        "/console/billing".to_owned(),
        "/console/invoices".to_owned(),
        "/console/payouts".to_owned(),
        "/console/reports".to_owned(),
        "/console/reports/health".to_owned(),
        "/console/flags?tenant=demo".to_owned(),
        "/console/audit".to_owned(),
    ] {
        let page = viewer.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {page:?}");
        let forms = page.text.matches("method=\"post\"").count();
        assert_eq!(
            forms, 1,
            "{path} has the form that signs out only: {}",
            page.text
        );
        assert!(!page.text.contains("Action</th></tr>"), "{path}");
    }
    let page = viewer.get("/console/payouts").await;
    for path in [
        format!("/console/payouts/{payout}/cancel"),
        "/console/invoices/x/void".to_owned(),
        "/console/tenants/demo/invoice".to_owned(),
    ] {
        let refused = viewer.submit(&page, &path, &[("confirmed", "yes")]).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
    let stored = app.document("payouts", doc! {}).await;
    assert_eq!(stored.get_str("status").unwrap(), "pending");
}
