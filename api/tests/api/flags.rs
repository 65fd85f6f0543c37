//! Feature flags: management and evaluation.

use std::time::Duration;

use bson::doc;
use dezky_api::{AppState, seed::seed};
use dezky_shared::{
    feature_flag::{EvaluationContext, MAX_FLAGS, NEW_BILLING_ENGINE},
    platform::clock,
};
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::app::TestApp;
use crate::client::{Reply, send_all};

async fn create(app: &TestApp, body: &Value) -> Reply {
    app.operator().post("/flags", body).await
}

/// Creates `beta_search` with these rules.
async fn define(app: &TestApp, rules: Value) {
    let body = json!({ "key": "beta_search", "description": "A new search.", "rules": rules });
    let reply = create(app, &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

async fn patch(app: &TestApp, body: &Value) -> Reply {
    app.operator().patch("/flags/beta_search", body).await
}

async fn evaluate(app: &TestApp, caller: Caller, body: &Value) -> Reply {
    app.client(caller).post("/flags/evaluate", body).await
}

/// Value of `beta_search` for the tenant `demo`.
async fn is_on(app: &TestApp) -> bool {
    let reply = evaluate(app, Caller::Member, &json!({ "tenantSlug": "demo" })).await;
    reply.body["beta_search"].as_bool().unwrap()
}

#[tokio::test]
async fn creating_updating_and_deleting_a_flag_is_audited() {
    let app = TestApp::with_demo().await;
    let demo = app.tenant("demo").await.id.to_string();

    let created = create(
        &app,
        &json!({
            "key": "beta_search",
            "description": " A new search. ",
            "rules": [
                { "tenants": ["demo"], "value": true },
                { "plans": ["starter"], "percentage": 25, "from": "2026-01-01T00:00:00Z", "value": true },
            ],
        }),
    )
    .await;
    let changed = patch(&app, &json!({ "killSwitch": true, "default": true })).await;
    let same = patch(&app, &json!({ "killSwitch": true })).await;
    let listed = app.operator().get("/flags").await;
    let shown = app.operator().get("/flags/beta_search").await;
    let deleted = app.operator().delete("/flags/beta_search").await;
    let gone = app.operator().get("/flags/beta_search").await;

    assert_eq!(created.status, 201, "{created:?}");
    assert_eq!(created.header("location"), Some("/flags/beta_search"));
    assert_eq!(created.body["description"], "A new search.");
    assert_eq!(created.body["default"], false);
    assert_eq!(
        created.body["rules"],
        json!([
            { "tenants": [demo], "value": true },
            { "plans": ["starter"], "percentage": 25, "from": "2026-01-01T00:00:00.000Z", "value": true },
        ])
    );
    assert_eq!(changed.status, 200, "{changed:?}");
    assert_eq!(
        (&changed.body["killSwitch"], &changed.body["default"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(changed.body["rules"], created.body["rules"]);
    assert_eq!(changed.body["revision"], 2);
    assert_eq!(same.body, changed.body);
    assert_eq!(listed.body["items"], json!([changed.body]));
    assert_eq!(shown.body, changed.body);
    assert_eq!(shown.etag(), changed.etag());
    assert_eq!(
        (deleted.status.as_u16(), &deleted.body),
        (200, &changed.body)
    );
    assert_eq!(gone.summary(), "404 not_found");
    let actions = app.actions().await;
    let of_flags: Vec<_> = actions
        .iter()
        .filter(|action| action.starts_with("flag."))
        .collect();
    assert_eq!(of_flags, ["flag.create", "flag.update", "flag.delete"]);
    let events = app.collection("audit_events");
    let update = doc! { "action": "flag.update" };
    let update = events.find_one(update).await.unwrap().unwrap();
    assert_eq!(
        update.get_document("before").unwrap(),
        &doc! { "default": false, "killSwitch": false }
    );
    assert_eq!(
        update.get_document("after").unwrap(),
        &doc! { "default": true, "killSwitch": true }
    );
}

#[tokio::test]
async fn all_invalid_fields_of_a_flag_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let many: Vec<String> = (0..501).map(|n| format!("tenant-{n}")).collect();

    let reply = create(
        &app,
        &json!({
            "key": "Beta",
            "description": " ",
            "rules": [
                { "value": true },
                { "percentage": 101, "value": true },
                { "plans": ["starter", "gold"], "value": true },
                { "from": "tomorrow", "until": "2026-02-30T00:00:00Z", "value": true },
                { "from": "2026-02-01T00:00:00Z", "until": "2026-02-01T00:00:00Z", "value": true },
                { "tenants": many, "value": true },
            ],
        }),
    )
    .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(
        reply.errors(),
        [
            ("/key", "invalid_key"),
            ("/description", "too_short"),
            ("/rules/0", "no_condition"),
            ("/rules/1/percentage", "out_of_range"),
            ("/rules/2/plans/1", "invalid_plan"),
            ("/rules/3/from", "invalid_time"),
            ("/rules/3/until", "invalid_time"),
            ("/rules/4/until", "out_of_range"),
            ("/rules/5/tenants", "too_many"),
        ]
    );
    assert_eq!(app.count("flags").await, 0);
}

#[tokio::test]
async fn a_rule_must_name_existing_tenants_and_partners() {
    let app = TestApp::with_demo().await;
    let partner = app.insert_partner("nordic", "active").await.to_string();
    let demo = app.tenant("demo").await.id.to_string();

    let invalid = create(
        &app,
        &json!({
            "key": "beta_search",
            "description": "A new search.",
            "rules": [
                { "tenants": ["demo", "dmeo"], "percentage": 101, "value": true },
                { "value": true },
                { "partners": ["nordic", demo], "value": true },
            ],
        }),
    )
    .await;
    define(
        &app,
        json!([
            { "tenants": ["demo", demo, "demo"], "value": true },
            { "partners": ["nordic", partner], "value": true },
        ]),
    )
    .await;

    assert_eq!(invalid.summary(), "422 validation_failed");
    assert_eq!(
        invalid.errors(),
        [
            ("/rules/0/percentage", "out_of_range"),
            ("/rules/1", "no_condition"),
            ("/rules/0/tenants/1", "unknown_tenant"),
            ("/rules/2/partners/1", "unknown_partner"),
        ]
    );
    let shown = app.operator().get("/flags/beta_search").await;
    assert_eq!(
        shown.body["rules"],
        json!([
            { "tenants": [demo], "value": true },
            { "partners": [partner], "value": true },
        ])
    );
    // The returned rules are accepted unchanged.
    let sent_back = patch(&app, &json!({ "rules": shown.body["rules"] })).await;
    assert_eq!(sent_back.body, shown.body);
}

#[tokio::test]
async fn malformed_rules_are_rejected_with_their_pointer() {
    let app = TestApp::with_demo().await;

    for (rules, pointer) in [
        (json!([["demo"]]), "/rules/0"),
        (json!([{ "tenants": ["demo"] }]), "/rules/0/value"),
        (
            json!([{ "percentage": 12.5, "value": true }]),
            "/rules/0/percentage",
        ),
        (
            json!([{ "tenants": ["demo"], "value": true, "valeu": 1 }]),
            "/rules/0/valeu",
        ),
    ] {
        let body = json!({ "key": "beta_search", "description": "A new search.", "rules": rules });
        let reply = create(&app, &body).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{rules}");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer, "{rules}");
    }
}

#[tokio::test]
async fn flag_keys_are_unique_and_creation_is_idempotent() {
    let app = TestApp::with_demo().await;
    let body = json!({ "key": "beta_search", "description": "A new search." });
    let with_key = || app.operator().post("/flags", &body).idempotency_key("one");

    let first = with_key().await;
    let replayed = with_key().await;
    let taken = create(&app, &body).await;

    assert_eq!(first.status, 201);
    assert_eq!(
        (replayed.status, &replayed.body),
        (first.status, &first.body)
    );
    assert!(replayed.is_replayed());
    assert_eq!(taken.summary(), "409 flag_exists");
}

#[tokio::test]
async fn the_number_of_flags_is_limited() {
    let app = TestApp::with_demo().await;
    let now = clock::now();
    let flags = (0..MAX_FLAGS).map(|n| {
        doc! {
            "_id": format!("flag_{n}"), "description": "One of many.", "default": false, "rules": [],
            "killSwitch": false, "revision": 1_i64, "createdAt": now, "updatedAt": now,
        }
    });
    app.collection("flags").insert_many(flags).await.unwrap();

    let reply = create(
        &app,
        &json!({ "key": "beta_search", "description": "One too many." }),
    )
    .await;

    assert_eq!(reply.summary(), "409 too_many_flags");
    let page = app.operator().get("/flags?limit=100").await;
    let cursor = page.body["nextCursor"].as_str().unwrap();
    let next = app
        .operator()
        .get(format!("/flags?limit=100&cursor={cursor}"))
        .await;
    let last_key = page.body["items"][99]["key"].as_str();
    assert!(last_key < next.body["items"][0]["key"].as_str(), "{next:?}");
}

#[tokio::test]
async fn concurrent_flag_edits_of_one_version_have_one_winner() {
    let app = TestApp::with_demo().await;
    define(&app, json!([])).await;
    let etag = app
        .operator()
        .get("/flags/beta_search")
        .await
        .etag()
        .to_owned();
    let change = |n: usize| {
        app.operator()
            .patch(
                "/flags/beta_search",
                json!({ "description": format!("Number {n}.") }),
            )
            .if_match(&etag)
    };

    let replies = send_all((0..10).map(change)).await;

    let with = |status: u16| {
        replies
            .iter()
            .filter(|reply| reply.status == status)
            .count()
    };
    assert_eq!((with(200), with(412)), (1, 9), "{replies:?}");
}

#[tokio::test]
async fn concurrent_edits_of_different_flag_fields_are_all_kept() {
    let app = TestApp::with_demo().await;
    define(&app, json!([])).await;

    let bodies = [
        json!({ "description": "Another one." }),
        json!({ "default": true }),
        json!({ "killSwitch": true }),
        json!({ "rules": [{ "percentage": 1, "value": true }] }),
    ];
    let replies = join_all(bodies.iter().map(|body| patch(&app, body))).await;

    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{replies:?}"
    );
    let shown = app.operator().get("/flags/beta_search").await.body;
    assert_eq!(shown["revision"], 5);
    assert_eq!(shown["description"], "Another one.");
    assert_eq!(shown["default"], true);
    assert_eq!(shown["killSwitch"], true);
    assert_eq!(shown["rules"][0]["percentage"], 1);
}

#[tokio::test]
async fn flags_are_evaluated_only_for_accessible_tenants() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    app.with_partner("read-only").await;
    define(&app, json!([{ "tenants": ["demo"], "value": true }])).await;

    for (caller, slug, expected) in [
        (Caller::Member, "demo", "200"),
        (Caller::Owner, "demo", "200"),
        (Caller::Partner, "demo", "200"),
        (Caller::Operator, "other", "200"),
        (Caller::Stranger, "demo", "404 not_found"),
        (Caller::Member, "other", "404 not_found"),
        (Caller::Partner, "other", "404 not_found"),
        (Caller::OperatorWithoutFlag, "demo", "404 not_found"),
        (Caller::Operator, "nowhere", "404 not_found"),
    ] {
        let reply = evaluate(&app, caller, &json!({ "tenantSlug": slug })).await;

        assert_eq!(reply.summary(), expected, "{caller:?} {slug}");
        if reply.status == 200 {
            let on = json!({ "beta_search": slug == "demo" });
            assert_eq!(reply.body, on, "{caller:?} {slug}");
        }
    }
}

#[tokio::test]
async fn evaluation_without_a_slug_uses_the_callers_only_tenant() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    define(&app, json!([{ "tenants": ["demo"], "value": true }])).await;

    let only = evaluate(&app, Caller::Member, &json!({})).await;
    let empty = app.member().post_empty("/flags/evaluate").await;
    let none = evaluate(&app, Caller::Stranger, &json!({})).await;
    let member = app.user(Caller::Member).await.id;
    app.set_tenant_roles(member, json!({ "other": "member" }))
        .await;
    let several = evaluate(&app, Caller::Member, &json!({ "tenantSlug": null })).await;

    assert_eq!(only.body, json!({ "beta_search": true }));
    assert_eq!(empty.body, only.body);
    assert_eq!(none.summary(), "422 tenant_needed");
    assert_eq!(several.summary(), "422 tenant_needed");
}

#[tokio::test]
async fn rules_use_the_tenants_current_plan_and_partner() {
    let app = TestApp::with_demo().await;
    let partner = app.with_partner("owner").await.to_string();
    define(
        &app,
        json!([
            { "plans": ["enterprise"], "value": true },
            { "partners": [partner], "plans": ["starter"], "value": true },
        ]),
    )
    .await;

    let business = is_on(&app).await;
    app.set_tenant("demo", doc! { "plan": "starter" }).await;
    let starter = is_on(&app).await;
    app.set_tenant("demo", doc! { "partnerId": null }).await;
    let without_partner = is_on(&app).await;
    app.set_tenant("demo", doc! { "plan": "enterprise" }).await;
    let enterprise = is_on(&app).await;
    patch(&app, &json!({ "killSwitch": true })).await;
    let killed = is_on(&app).await;

    assert_eq!(
        [business, starter, without_partner, enterprise, killed],
        [false, true, false, true, false]
    );
}

#[tokio::test]
async fn a_flag_change_applies_immediately_locally_and_soon_in_other_processes() {
    let app = TestApp::with_demo().await;
    define(&app, json!([])).await;
    let elsewhere = AppState::new(&app.config, &app.state.store, &app.shutdown).unwrap();
    let demo = EvaluationContext::from(&app.tenant("demo").await);
    let is_on_elsewhere = async || {
        let flags = elsewhere.flags.current().await.unwrap();
        flags.is_on("beta_search", demo, clock::now())
    };
    assert!(!is_on_elsewhere().await);

    patch(&app, &json!({ "default": true })).await;

    assert!(is_on(&app).await);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !is_on_elsewhere().await {
        assert!(
            Instant::now() < deadline,
            "the other process never picked up the change"
        );
        sleep(Duration::from_millis(50)).await;
    }
    app.operator().delete("/flags/beta_search").await;
    let all = evaluate(&app, Caller::Member, &json!({})).await;
    assert_eq!(all.body, json!({}));
}

#[tokio::test]
async fn the_built_in_flag_is_seeded_and_cannot_be_deleted() {
    let app = TestApp::with_demo().await;
    let (one, two) = tokio::join!(seed(&app.state), seed(&app.state));
    one.unwrap();
    two.unwrap();
    let path = format!("/flags/{NEW_BILLING_ENGINE}");

    let shown = app.operator().get(&path).await;
    let deleted = app.operator().delete(&path).await;
    let all = evaluate(&app, Caller::Member, &json!({})).await;

    assert_eq!(shown.status, 200);
    assert_eq!(deleted.summary(), "409 flag_built_in");
    assert_eq!(all.body, json!({ NEW_BILLING_ENGINE: false }));
    assert_eq!(app.count("flags").await, 1);
}

#[tokio::test]
async fn an_undecodable_flag_is_off_and_does_not_affect_others() {
    let app = TestApp::with_demo().await;
    let flags = app.collection("flags");
    let broken = doc! { "_id": "broken", "default": "perhaps" };
    flags.insert_one(broken).await.unwrap();

    define(&app, json!([{ "tenants": ["demo"], "value": true }])).await;

    let on = evaluate(&app, Caller::Member, &json!({})).await;
    assert_eq!(on.body, json!({ "beta_search": true }));
}
