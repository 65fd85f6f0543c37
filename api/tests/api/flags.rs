//! Feature flags: defining them, and asking what they are for a tenant.

use std::time::Duration;

use bson::doc;
use dezky_api::{AppState, seed::seed};
use dezky_shared::{
    feature_flag::{EvaluationContext, MAX_FLAGS, NEW_BILLING_ENGINE},
    platform::clock,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::app::{Reply, TestApp};

async fn create(app: &TestApp, body: &Value) -> Reply {
    app.post("/flags")
        .by(Caller::Operator)
        .json(body)
        .send()
        .await
}

/// Defines `beta_search` with these rules.
async fn define(app: &TestApp, rules: Value) {
    let body = json!({ "key": "beta_search", "description": "A new search.", "rules": rules });
    let reply = create(app, &body).await;
    assert_eq!(reply.status, 201, "{reply:?}");
}

async fn patch(app: &TestApp, body: &Value) -> Reply {
    app.patch("/flags/beta_search")
        .by(Caller::Operator)
        .json(body)
        .send()
        .await
}

async fn evaluate(app: &TestApp, caller: Caller, body: &Value) -> Reply {
    app.post("/flags/evaluate")
        .by(caller)
        .json(body)
        .send()
        .await
}

/// What `beta_search` is for the tenant `demo`.
async fn is_on(app: &TestApp) -> bool {
    let reply = evaluate(app, Caller::Member, &json!({ "tenantSlug": "demo" })).await;
    reply.body["beta_search"].as_bool().unwrap()
}

fn errors(reply: &Reply) -> Vec<(&str, &str)> {
    let errors = reply.body["errors"].as_array().unwrap();
    errors
        .iter()
        .map(|error| {
            (
                error["pointer"].as_str().unwrap(),
                error["code"].as_str().unwrap(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_flag_is_defined_changed_and_deleted_and_each_is_audited() {
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
    let listed = app.get("/flags").by(Caller::Operator).send().await;
    let shown = app
        .get("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await;
    let deleted = app
        .delete("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await;
    let gone = app
        .get("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await;

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
async fn all_wrong_values_of_a_flag_are_told_at_once_and_nothing_is_stored() {
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
        errors(&reply),
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
async fn a_rule_names_tenants_and_partners_that_exist() {
    let app = TestApp::with_demo().await;
    let partner = app.insert_partner("nordic", "active").await.to_string();
    let demo = app.tenant("demo").await.id.to_string();

    let wrong = create(
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

    assert_eq!(wrong.summary(), "422 validation_failed");
    assert_eq!(
        errors(&wrong),
        [
            ("/rules/0/percentage", "out_of_range"),
            ("/rules/1", "no_condition"),
            ("/rules/0/tenants/1", "unknown_tenant"),
            ("/rules/2/partners/1", "unknown_partner"),
        ]
    );
    let shown = app
        .get("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await;
    assert_eq!(
        shown.body["rules"],
        json!([
            { "tenants": [demo], "value": true },
            { "partners": [partner], "value": true },
        ])
    );
    // What is shown can be sent back.
    let sent_back = patch(&app, &json!({ "rules": shown.body["rules"] })).await;
    assert_eq!(sent_back.body, shown.body);
}

#[tokio::test]
async fn rules_of_the_wrong_shape_are_refused_with_their_place() {
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
async fn a_key_is_given_once_and_a_repeated_request_is_answered_alike() {
    let app = TestApp::with_demo().await;
    let body = json!({ "key": "beta_search", "description": "A new search." });
    let with_key = || {
        app.post("/flags")
            .by(Caller::Operator)
            .header("idempotency-key", "one")
            .json(&body)
            .send()
    };

    let first = with_key().await;
    let replayed = with_key().await;
    let taken = create(&app, &body).await;

    assert_eq!(first.status, 201);
    assert_eq!(
        (replayed.status, &replayed.body),
        (first.status, &first.body)
    );
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(taken.summary(), "409 flag_exists");
}

#[tokio::test]
async fn there_are_only_so_many_flags() {
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
    let page = app
        .get("/flags?limit=100")
        .by(Caller::Operator)
        .send()
        .await;
    let cursor = page.body["nextCursor"].as_str().unwrap();
    let next = app
        .get(&format!("/flags?limit=100&cursor={cursor}"))
        .by(Caller::Operator)
        .send()
        .await;
    let last_key = page.body["items"][99]["key"].as_str();
    assert!(last_key < next.body["items"][0]["key"].as_str(), "{next:?}");
}

#[tokio::test]
async fn of_many_who_change_a_flag_they_have_read_one_wins() {
    let app = TestApp::with_demo().await;
    define(&app, json!([])).await;
    let etag = app
        .get("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await
        .etag()
        .to_owned();
    let change = |n: usize| {
        app.patch("/flags/beta_search")
            .by(Caller::Operator)
            .header("if-match", &etag)
            .json(&json!({ "description": format!("Number {n}.") }))
            .send()
    };

    let replies = futures::future::join_all((0..10).map(change)).await;

    let with = |status: u16| {
        replies
            .iter()
            .filter(|reply| reply.status == status)
            .count()
    };
    assert_eq!((with(200), with(412)), (1, 9), "{replies:?}");
}

#[tokio::test]
async fn changes_of_different_fields_at_once_lose_none() {
    let app = TestApp::with_demo().await;
    define(&app, json!([])).await;

    let bodies = [
        json!({ "description": "Another one." }),
        json!({ "default": true }),
        json!({ "killSwitch": true }),
        json!({ "rules": [{ "percentage": 1, "value": true }] }),
    ];
    let replies = futures::future::join_all(bodies.iter().map(|body| patch(&app, body))).await;

    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{replies:?}"
    );
    let shown = app
        .get("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await
        .body;
    assert_eq!(shown["revision"], 5);
    assert_eq!(shown["description"], "Another one.");
    assert_eq!(shown["default"], true);
    assert_eq!(shown["killSwitch"], true);
    assert_eq!(shown["rules"][0]["percentage"], 1);
}

#[tokio::test]
async fn callers_ask_only_for_tenants_they_belong_to() {
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
async fn without_a_name_it_is_the_callers_only_tenant() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    define(&app, json!([{ "tenants": ["demo"], "value": true }])).await;

    let only = evaluate(&app, Caller::Member, &json!({})).await;
    let none = evaluate(&app, Caller::Stranger, &json!({})).await;
    let member = app.user(Caller::Member).await.id;
    app.patch(&format!("/users/{member}"))
        .by(Caller::Operator)
        .json(&json!({ "tenantRoles": { "other": "member" } }))
        .send()
        .await;
    let several = evaluate(&app, Caller::Member, &json!({ "tenantSlug": null })).await;

    assert_eq!(only.body, json!({ "beta_search": true }));
    assert_eq!(none.summary(), "422 tenant_needed");
    assert_eq!(several.summary(), "422 tenant_needed");
}

#[tokio::test]
async fn rules_look_at_plan_and_partner_as_they_are_now() {
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
    let of_no_partner = is_on(&app).await;
    app.set_tenant("demo", doc! { "plan": "enterprise" }).await;
    let enterprise = is_on(&app).await;
    patch(&app, &json!({ "killSwitch": true })).await;
    let killed = is_on(&app).await;

    assert_eq!(
        [business, starter, of_no_partner, enterprise, killed],
        [false, true, false, true, false]
    );
}

#[tokio::test]
async fn a_change_is_known_at_once_where_it_was_made_and_soon_everywhere() {
    let app = TestApp::with_demo().await;
    define(&app, json!([])).await;
    let elsewhere = AppState::new(&app.config, &app.state.store, &app.shutdown).unwrap();
    let demo = EvaluationContext::from(&app.tenant("demo").await);
    let known_elsewhere = async || {
        let flags = elsewhere.flags.current().await.unwrap();
        flags.is_on("beta_search", demo, clock::now())
    };
    assert!(!known_elsewhere().await);

    patch(&app, &json!({ "default": true })).await;

    assert!(is_on(&app).await);
    let deadline = Instant::now() + Duration::from_mins(1);
    while !known_elsewhere().await {
        assert!(Instant::now() < deadline, "it was never known elsewhere");
        sleep(Duration::from_millis(50)).await;
    }
    app.delete("/flags/beta_search")
        .by(Caller::Operator)
        .send()
        .await;
    let all = evaluate(&app, Caller::Member, &json!({})).await;
    assert_eq!(all.body, json!({}));
}

#[tokio::test]
async fn the_flag_that_the_service_asks_for_is_there_from_the_start_and_stays() {
    let app = TestApp::with_demo().await;
    let (one, two) = tokio::join!(seed(&app.state), seed(&app.state));
    one.unwrap();
    two.unwrap();
    let path = format!("/flags/{NEW_BILLING_ENGINE}");

    let shown = app.get(&path).by(Caller::Operator).send().await;
    let deleted = app.delete(&path).by(Caller::Operator).send().await;
    let all = evaluate(&app, Caller::Member, &json!({})).await;

    assert_eq!(shown.status, 200);
    assert_eq!(deleted.summary(), "409 flag_built_in");
    assert_eq!(all.body, json!({ NEW_BILLING_ENGINE: false }));
    assert_eq!(app.count("flags").await, 1);
}

#[tokio::test]
async fn a_flag_that_cannot_be_read_is_off_and_hides_no_other() {
    let app = TestApp::with_demo().await;
    let flags = app.collection("flags");
    let broken = doc! { "_id": "broken", "default": "perhaps" };
    flags.insert_one(broken).await.unwrap();

    define(&app, json!([{ "tenants": ["demo"], "value": true }])).await;

    let on = evaluate(&app, Caller::Member, &json!({})).await;
    assert_eq!(on.body, json!({ "beta_search": true }));
}
