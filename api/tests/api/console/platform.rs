//! Flags, partners, storage, and what a role that only reads sees.

use bson::{DateTime, doc};
use dezky_shared::id::TenantId;
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
async fn the_rules_of_a_flag_are_changed_one_by_one_and_an_old_page_changes_nothing() {
    let app = app().await;
    let rules = json!([{ "tenants": ["demo"], "value": true }]);
    let flag = json!({ "key": "beta", "description": "Beta.", "rules": rules });
    app.operator().post("/flags", flag).await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/flags/beta").await;
    let rule = [
        ("value", "off"),
        ("plans", "business"),
        ("percentage", "20"),
        ("position", "first"),
        ("revision", page.hidden("revision")),
    ];
    let (add, remove) = (
        "/console/flags/beta/add-rule",
        "/console/flags/beta/remove-rule",
    );

    let added = browser.submit(&page, add, &rule).await;
    let again = browser.submit(&page, add, &rule).await;
    let both = browser.get("/console/flags/beta").await;
    let second = [
        ("rule", "1"),
        ("revision", both.hidden("revision")),
        ("confirmed", "yes"),
    ];
    let removed = browser.submit(&both, remove, &second).await;

    assert_eq!(
        added.location(),
        "/console/flags/beta?notice=flag-rule-added"
    );
    assert_eq!(again.status, StatusCode::PRECONDITION_FAILED);
    let (first, last) = both.text.split_once("off: plans business; 20 %").unwrap();
    assert!(!first.contains("on: tenants"), "{first}");
    assert!(last.contains("on: tenants"), "{last}");
    assert_eq!(
        removed.location(),
        "/console/flags/beta?notice=flag-rule-removed"
    );
    let stored = app.operator().get("/flags/beta").await;
    assert_eq!(
        stored.body["rules"],
        json!([{ "plans": ["business"], "percentage": 20, "value": false }])
    );
}

#[tokio::test]
async fn a_rule_is_moved_up_once_and_the_first_one_has_no_place_to_go() {
    let app = app().await;
    app.create("acme").await;
    let rule = |tenant: TenantId| json!({ "tenants": [tenant], "value": true });
    let [demo, acme] = [app.tenant("demo").await.id, app.tenant("acme").await.id];
    let rules = json!([rule(demo), { "percentage": 20, "value": false }, rule(acme)]);
    let flag = json!({ "key": "beta", "description": "Beta.", "rules": rules });
    let created = app.operator().post("/flags", flag).await;
    assert_eq!(created.status, 201, "{created:?}");
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let page = browser.get("/console/flags/beta").await;
    let path = "/console/flags/beta/move-rule";
    let of_rule = |number, revision| [("rule", number), ("revision", revision)];
    let revision = page.hidden("revision");

    let mut refused = Vec::new();
    for number in ["0", "3", "-1", "x"] {
        let fields = of_rule(number, revision);
        refused.push(browser.submit(&page, path, &fields).await.status);
    }
    let moved = browser.submit(&page, path, &of_rule("2", revision)).await;
    let other = browser.get("/console/flags/beta").await;
    let stale = browser.submit(&other, path, &of_rule("2", revision)).await;

    assert!(page.text.contains("Move rule 2 up"), "{}", page.text);
    assert!(!page.text.contains("Move rule 1 up"), "{}", page.text);
    assert!(
        refused.iter().all(StatusCode::is_client_error),
        "{refused:?}"
    );
    assert_eq!(
        moved.location(),
        "/console/flags/beta?notice=flag-rule-moved"
    );
    assert_eq!(stale.status, StatusCode::PRECONDITION_FAILED);
    let stored = app.operator().get("/flags/beta").await;
    assert_eq!(
        stored.body["rules"],
        json!([rule(demo), rule(acme), { "percentage": 20, "value": false }])
    );
}

#[tokio::test]
async fn a_flag_is_created_turned_off_for_everyone_turned_on_again_and_deleted() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let list = browser.get("/console/flags").await;
    let fields = [("key", "beta"), ("description", "Beta.")];
    let confirmed = [("confirmed", "yes")];
    let action = |name: &str| format!("/console/flags/beta/{name}");

    let created = browser
        .submit(&list, "/console/flags/new/create", &fields)
        .await;
    let page = browser.open(created.location()).await;
    let on = [("default", "on")];
    browser.submit(&page, &action("default"), &on).await;
    let page = browser.get("/console/flags/beta").await;
    let asked = browser.submit(&page, &action("kill"), &[]).await;
    let before = app.operator().get("/flags/beta").await;
    let killed = browser.submit(&asked, &action("kill"), &confirmed).await;
    let page = browser.open(killed.location()).await;
    browser.submit(&page, &action("revive"), &[]).await;
    let after = app.operator().get("/flags/beta").await;
    let page = browser.get("/console/flags/beta").await;
    let deleted = browser.submit(&page, &action("delete"), &confirmed).await;

    assert_eq!(before.body["default"], true);
    assert_eq!(before.body["killSwitch"], false, "it was not confirmed yet");
    assert_eq!(after.body["killSwitch"], false);
    assert_eq!(deleted.location(), "/console/flags?notice=flag-deleted");
    assert_eq!(app.operator().get("/flags/beta").await.status, 404);
    let actions = app.actions().await;
    let of_flag = actions.iter().filter(|name| name.starts_with("flag."));
    let expected = [
        "flag.create",
        "flag.update",
        "flag.update",
        "flag.update",
        "flag.delete",
    ];
    assert_eq!(of_flag.collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn the_storage_of_a_tenant_is_shown_as_stored_and_not_measured_again() {
    let app = app().await;
    let mut browser = Browser::signed_in(&app, Caller::Operator).await;
    let unmeasured = browser.get("/console/tenants/demo").await;
    app.set_storage(DateTime::from_millis(0), 910).await;

    let page = browser.get("/console/tenants/demo").await;

    assert!(unmeasured.text.contains("not measured yet"));
    for shown in [
        "910 B",
        "1.0 kB",
        "critical",
        "All 2 mailboxes",
        "ada@demo.test",
    ] {
        assert!(page.text.contains(shown), "{shown}: {}", page.text);
    }
    let kinds = app.kinds().await;
    assert!(!kinds.contains(&"measure_storage".to_owned()), "{kinds:?}");
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
    app.insert_partner("nordic", "active").await;
    let rules = json!([{ "tenants": ["demo"], "value": true }]);
    let flag = json!({ "key": "beta", "description": "Beta.", "rules": rules });
    app.operator().post("/flags", flag).await;
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
        "/console/flags/beta".to_owned(),
        "/console/partners/nordic".to_owned(),
        "/console/audit".to_owned(),
        "/console/audit/verify".to_owned(),
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
