//! Forms of other pages, stored markup, and roles that may not act.

use bson::doc;
use dezky_sim::callers::Caller;
use http::StatusCode;
use serde_json::json;

use super::browser::{Browser, ORIGIN, app};

#[tokio::test]
async fn a_form_is_accepted_from_a_page_of_its_session_only() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/tenants/demo").await;
    let path = "/console/tenants/demo/reconcile";
    let jobs = app.jobs().await.len();

    let cross_site: [&[(&str, &str)]; 5] = [
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("sec-fetch-site", "cross-site"), ("origin", ORIGIN)],
        &[("origin", "https://evil.test")],
        &[],
    ];
    for headers in cross_site {
        let reply = browser.submit_with(&page, path, &[], headers).await;
        assert_eq!(reply.status, StatusCode::FORBIDDEN, "{headers:?}");
    }
    let mut other = Browser::signed_in(&app, Caller::Operator).await;
    let of_another_session = other.submit(&page, path, &[]).await;
    assert_eq!(of_another_session.status, StatusCode::FORBIDDEN);
    assert_eq!(app.jobs().await.len(), jobs, "nothing was done");

    // Browsers without fetch metadata send the origin.
    let headers = [("origin", ORIGIN)];
    let accepted = browser.submit_with(&page, path, &[], &headers).await;
    assert_eq!(accepted.status, StatusCode::SEE_OTHER, "{accepted:?}");
    // A form that is sent twice has one effect.
    let again = browser.submit_with(&page, path, &[], &headers).await;
    assert_eq!(again.location(), accepted.location());
    let reconciled = app.kinds().await;
    let reconciled = reconciled.iter().filter(|kind| *kind == "reconcile_tenant");
    assert_eq!(reconciled.count(), 1);
    let event = app.audit_event("tenant.reconcile").await;
    let actor = event.get_document("actor").unwrap();
    assert_eq!(actor.get_str("kind").unwrap(), "operator");
}

#[tokio::test]
async fn stored_markup_is_shown_as_text() {
    let app = app().await;
    let markup = "<script>alert(1)</script>\" onmouseover=\"x";
    app.set_tenant("demo", doc! { "name": markup }).await;
    let error = doc! {
        "code": "upstream_conflict", "class": "conflict", "message": markup, "detail": markup,
        "retryable": false,
    };
    let job = app.first_job().await;
    app.set_job(job, doc! { "error": error, "state": "discarded" })
        .await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    app.set_user(app.user(Caller::Operator).await.id, doc! { "name": markup })
        .await;
    let flag = json!({ "key": "beta", "description": markup, "default": true });
    app.operator().post("/flags", flag).await;
    let partner = app.with_partner("owner").await;
    let named = doc! { "slug": "nordic", "name": markup };
    app.set("partners", doc! { "_id": partner }, named).await;

    for path in [
        "/console".to_owned(),
        "/console/tenants".to_owned(),
        "/console/tenants/demo".to_owned(),
        "/console/jobs?q=%3Cscript%3E".to_owned(),
        "/console/flags?tenant=%3Cscript%3E".to_owned(),
        "/console/flags/beta".to_owned(),
        "/console/partners".to_owned(),
        "/console/partners/nordic".to_owned(),
        "/console/audit?q=%22%3E%3Cscript%3E".to_owned(),
        format!("/console/jobs/{job}"),
        "/console/jobs?tenant=%22%3E%3Cscript%3E".to_owned(),
        "/console?notice=%3Cscript%3E".to_owned(),
    ] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{path}: {page:?}");
        assert!(!page.text.contains("<script>"), "{path}: {}", page.text);
        assert!(!page.text.contains("\" onmouseover"), "{path}");
    }
}

#[tokio::test]
async fn a_viewer_sees_no_action_and_is_refused_one() {
    let app = app().await;
    let id = app.user(Caller::OperatorWithoutFlag).await.id;
    app.set_user(id, doc! { "platformRole": "viewer" }).await;
    let mut viewer = Browser::signed_in(&app, Caller::OperatorWithoutFlag).await;
    let job = app.first_job().await;

    let page = viewer.get(&format!("/console/jobs/{job}")).await;
    assert!(page.text.contains("(viewer, read-only)"), "{}", page.text);
    assert!(!page.text.contains("/requeue"), "{}", page.text);
    let tenant = viewer.get("/console/tenants/demo").await;
    assert!(!tenant.text.contains("/suspend"), "{}", tenant.text);
    for path in [
        format!("/console/jobs/{job}/requeue"),
        "/console/tenants/demo/suspend".to_owned(),
        "/console/queues/dns/pause".to_owned(),
    ] {
        let confirmed = [("confirmed", "yes")];
        let refused = viewer.submit(&page, &path, &confirmed).await;
        assert_eq!(refused.status, StatusCode::FORBIDDEN, "{path}");
    }
    app.set_user(id, doc! { "platformRole": "support" }).await;
    let requeue = format!("/console/jobs/{job}/requeue");
    let requeued = viewer.submit(&page, &requeue, &[]).await;
    assert_eq!(requeued.status, StatusCode::SEE_OTHER, "{requeued:?}");
}
