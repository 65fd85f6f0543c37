//! Allowances of the plans.

use bson::doc;
use dezky_shared::{
    billing::Plan,
    queue::{args::ApplyAllowance, job::JobArgs as _},
};
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply};

const GB: i64 = 1_000_000_000;

async fn set(app: &TestApp, plan: &str, body: Value) -> Reply {
    let path = format!("/allowances/{plan}");
    app.operator().patch(path, body).await
}

#[tokio::test]
async fn every_plan_has_an_allowance_from_the_start() {
    let app = TestApp::with_demo().await;

    let list = app.operator().get("/allowances").await;

    let plans = list.texts("/plan");
    assert_eq!(plans, ["starter", "business", "enterprise"]);
    assert_eq!(list.items()[0]["filesBytes"], 100 * GB);
    assert_eq!(list.items()[0]["mailboxBytes"], 10 * GB);
    assert_eq!(list.items()[0]["seatsEnforced"], false);
    for item in list.items() {
        let plan = item["plan"].as_str().unwrap();
        let shown = app.operator().get(format!("/allowances/{plan}")).await;
        assert_eq!(shown.status, 200);
        assert_eq!(shown.body["filesBytes"], item["filesBytes"]);
    }
    let unknown = app.operator().get("/allowances/gold").await;
    assert_eq!(unknown.summary(), "404 not_found");
}

#[tokio::test]
async fn a_changed_quota_is_applied_by_a_job_and_audited() {
    let app = TestApp::with_demo().await;

    let changed = set(&app, "business", json!({ "filesBytes": 7 })).await;
    let shown = app.operator().get("/allowances/business").await;
    let plans = app.stranger().get("/plans").await;

    assert_eq!(changed.status, 202);
    assert_eq!(shown.body["filesBytes"], 7);
    assert_eq!(plans.items()[1]["spaceQuota"], 7);
    let jobs = app.jobs().await;
    let job = jobs
        .iter()
        .find(|job| job.kind == ApplyAllowance::KIND)
        .unwrap();
    let args: ApplyAllowance = job.args().unwrap();
    assert_eq!(args.plan, Plan::Business);
    assert_eq!(
        changed.header("location"),
        Some(format!("/jobs/{}", job.id).as_str())
    );
    let event = app.audit_event("allowance.update").await;
    assert_eq!(
        event.get_document("after").unwrap(),
        &doc! { "filesBytes": 7_i64 }
    );
    assert_eq!(
        event.get_document("before").unwrap(),
        &doc! { "filesBytes": 500 * GB }
    );
    assert_eq!(event.get_str("outcome").unwrap(), "accepted");
}

#[tokio::test]
async fn a_change_of_limits_needs_no_job_and_no_change_is_not_audited() {
    let app = TestApp::with_demo().await;

    let limits = json!({ "seats": 25, "seatsEnforced": true, "apps": 3, "domains": 2 });
    let changed = set(&app, "starter", limits.clone()).await;
    let same = set(&app, "starter", limits).await;
    let removed = set(&app, "starter", json!({ "seats": null })).await;

    for reply in [&changed, &same, &removed] {
        assert_eq!(reply.status, 200);
    }
    assert_eq!(changed.body["seats"], 25);
    assert_eq!(same.etag(), changed.etag());
    assert_eq!(removed.body["seats"], Value::Null);
    assert!(!app.kinds().await.contains(&ApplyAllowance::KIND.to_owned()));
    let actions = app.actions().await;
    let updates = actions
        .iter()
        .filter(|action| *action == "allowance.update");
    assert_eq!(updates.count(), 2);
}

#[tokio::test]
async fn an_older_version_is_rejected_and_a_repeated_request_is_replayed() {
    let app = TestApp::with_demo().await;
    let first = app.operator().get("/allowances/starter").await;
    let change = || {
        app.operator()
            .patch("/allowances/starter", json!({ "filesBytes": 0 }))
            .if_match(first.etag())
            .idempotency_key("once")
    };

    let changed = change().await;
    let again = change().await;
    let stale = app
        .operator()
        .patch("/allowances/starter", json!({ "filesBytes": 1 }))
        .if_match(first.etag())
        .await;

    assert_eq!(changed.status, 202);
    assert!(again.is_replayed());
    assert_eq!(again.body, changed.body);
    assert_eq!(stale.summary(), "412 precondition_failed");
    let kinds = app.kinds().await;
    let applied = kinds.iter().filter(|kind| *kind == ApplyAllowance::KIND);
    assert_eq!(applied.count(), 1);
}

#[tokio::test]
async fn sizes_and_counts_out_of_range_are_rejected_together() {
    let app = TestApp::with_demo().await;

    let reply = set(
        &app,
        "starter",
        json!({
            "filesBytes": -1, "mailboxBytes": 1_000_000_000_000_001_i64, "memberFilesBytes": -1,
            "seats": 0, "apps": -3, "domains": 100_001,
        }),
    )
    .await;

    assert_eq!(
        reply.errors(),
        [
            ("/filesBytes", "out_of_range"),
            ("/mailboxBytes", "out_of_range"),
            ("/memberFilesBytes", "out_of_range"),
            ("/seats", "out_of_range"),
            ("/apps", "out_of_range"),
            ("/domains", "out_of_range"),
        ]
    );
    let shown = app.operator().get("/allowances/starter").await;
    assert_eq!(shown.body["filesBytes"], 100 * GB);
    assert!(!app.kinds().await.contains(&ApplyAllowance::KIND.to_owned()));
}

#[tokio::test]
async fn the_quota_of_personal_spaces_is_optional_and_applied_by_a_job() {
    let app = TestApp::with_demo().await;

    let set_to = set(&app, "starter", json!({ "memberFilesBytes": 5 })).await;
    let removed = set(&app, "starter", json!({ "memberFilesBytes": null })).await;

    assert_eq!(set_to.summary(), "202");
    assert_eq!(removed.summary(), "202");
    assert_eq!(set_to.body["memberFilesBytes"], 5);
    assert_eq!(removed.body["memberFilesBytes"], Value::Null);
}

#[tokio::test]
async fn apps_and_domains_beyond_the_plan_are_rejected_if_enforced() {
    let app = TestApp::with_demo().await;
    let owner = app.owner();
    let wiki = |slug: &str| json!({ "name": slug, "slug": slug, "redirectUris": ["https://wiki.test/callback"] });
    let domain = |name: &str| json!({ "name": name });
    set(&app, "business", json!({ "apps": 1, "domains": 2 })).await;
    owner.post("/tenants/demo/apps", wiki("one")).await;
    let reported = owner.post("/tenants/demo/apps", wiki("two")).await;
    let enforced = json!({ "appsEnforced": true, "domainsEnforced": true });
    set(&app, "business", enforced).await;

    let app_rejected = owner.post("/tenants/demo/apps", wiki("three")).await;
    // demo.test is the first.
    let second = owner.post("/tenants/demo/domains", domain("b.test")).await;
    let third = owner.post("/tenants/demo/domains", domain("c.test")).await;
    let by_operator = app
        .operator()
        .post("/tenants/demo/domains", domain("b.test"))
        .await;

    assert_eq!(reported.summary(), "202");
    assert_eq!(app_rejected.summary(), "409 no_apps_left");
    assert_eq!(second.summary(), "202");
    assert_eq!(third.summary(), "409 no_domains_left");
    assert_eq!(
        by_operator.summary(),
        "202",
        "a claim is granted, not added"
    );
}
