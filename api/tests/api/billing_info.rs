//! Where a tenant is billed.

use bson::doc;
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

const PATH: &str = "/tenants/demo/billing-info";

async fn patch(app: &TestApp, body: Value) -> Reply {
    app.patch(PATH).by(Caller::Owner).json(&body).send().await
}

async fn show(app: &TestApp) -> Reply {
    app.get(PATH).by(Caller::Owner).send().await
}

/// Code and pointer of each error.
fn errors(reply: &Reply) -> Vec<(&str, &str)> {
    let errors = reply.body["errors"].as_array().unwrap().iter();
    errors
        .map(|error| {
            let text = |name: &str| error[name].as_str().unwrap();
            (text("pointer"), text("code"))
        })
        .collect()
}

#[tokio::test]
async fn an_owner_says_where_the_tenant_is_billed() {
    let app = TestApp::with_demo().await;
    assert_eq!(show(&app).await.body, json!({}));
    let jobs = app.count("jobs").await;

    let reply = patch(
        &app,
        json!({
            "company": " Demo A/S ", "vatId": "dk 13 58 56 28", "country": "dk", "email": "Invoices@Demo.test",
        }),
    )
    .await;

    let kept = json!({
        "company": "Demo A/S", "vatId": "DK13585628", "country": "DK", "email": "invoices@demo.test",
    });
    assert_eq!((reply.status.as_u16(), &reply.body), (200, &kept));
    assert_eq!(reply.etag(), "\"2.2\"");
    let shown = show(&app).await;
    assert_eq!((&shown.body, shown.etag()), (&kept, reply.etag()));
    assert_eq!(app.count("jobs").await, jobs);
}

#[tokio::test]
async fn only_those_who_may_write_see_it_in_the_tenant() {
    let app = TestApp::with_demo().await;
    app.with_partner("support").await;
    patch(&app, json!({ "company": "Demo A/S" })).await;

    for (caller, sees) in [
        (Caller::Owner, true),
        (Caller::Operator, true),
        (Caller::Member, false),
        (Caller::Partner, false),
    ] {
        let tenant = app.get("/tenants/demo").by(caller).send().await;
        let list = app.get("/tenants").by(caller).send().await;

        for shown in [&tenant.body, &list.body["items"][0]] {
            let expected = if sees {
                json!({ "company": "Demo A/S" })
            } else {
                Value::Null
            };
            assert_eq!(shown["billingInfo"], expected, "{caller:?}");
        }
    }
}

#[tokio::test]
async fn all_that_is_wrong_is_named_at_once_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;

    let reply = patch(
        &app,
        json!({ "company": " ", "vatId": "DK12345678", "country": "XX", "email": "nobody" }),
    )
    .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(
        errors(&reply),
        [
            ("/company", "too_short"),
            ("/country", "invalid_country"),
            ("/vatId", "invalid_vat_id"),
            ("/email", "invalid_email"),
        ]
    );
    assert_eq!(app.tenant("demo").await, before);
}

#[tokio::test]
async fn what_has_another_shape_is_refused() {
    let app = TestApp::with_demo().await;

    for body in [
        json!({ "vat": "DK13585628" }),
        json!({ "vatId": 13_585_628 }),
        json!([]),
    ] {
        let reply = patch(&app, body.clone()).await;
        assert_eq!(reply.summary(), "400 invalid_request", "{body}");
    }
}

#[tokio::test]
async fn a_vat_id_fits_the_country_whichever_was_known_before() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "country": "DK", "vatId": "DK13585628" })).await;

    let foreign = patch(&app, json!({ "vatId": "DE136695976" })).await;
    let foreign_and_more = json!({ "vatId": "DE136695976", "email": "nobody" });
    let foreign_and_more = patch(&app, foreign_and_more).await;
    let nowhere = patch(&app, json!({ "country": "XX" })).await;
    let moved = patch(&app, json!({ "country": "DE" })).await;
    let both = patch(&app, json!({ "country": "DE", "vatId": "DK13585628" })).await;
    let unknown = patch(&app, json!({ "vatId": "12345678" })).await;
    let kept = show(&app).await.body;
    let gone = patch(&app, json!({ "country": null })).await;
    let right = patch(&app, json!({ "country": "DE", "vatId": "DE136695976" })).await;

    assert_eq!(errors(&foreign), [("/vatId", "wrong_vat_country")]);
    assert_eq!(
        errors(&foreign_and_more),
        [("/email", "invalid_email"), ("/vatId", "wrong_vat_country")]
    );
    assert_eq!(errors(&nowhere), [("/country", "invalid_country")]);
    assert_eq!(errors(&moved), [("/country", "wrong_vat_country")]);
    assert_eq!(errors(&both), [("/vatId", "wrong_vat_country")]);
    assert_eq!(errors(&unknown), [("/vatId", "unknown_vat_country")]);
    assert_eq!(kept, json!({ "country": "DK", "vatId": "DK13585628" }));
    assert_eq!(gone.body, json!({ "vatId": "DK13585628" }));
    assert_eq!(
        right.body,
        json!({ "country": "DE", "vatId": "DE136695976" })
    );
}

#[tokio::test]
async fn a_refusal_for_what_was_known_is_not_remembered_with_its_key() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "country": "DK" })).await;
    let say = || {
        app.patch(PATH)
            .by(Caller::Owner)
            .header("idempotency-key", "vat-id")
            .json(&json!({ "vatId": "DE136695976" }))
            .send()
    };

    let refused = say().await;
    patch(&app, json!({ "country": "DE" })).await;
    let taken = say().await;
    let replayed = say().await;

    assert_eq!(refused.status, 422);
    assert_eq!(
        (taken.status.as_u16(), replayed.status.as_u16()),
        (200, 200)
    );
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(taken.body, replayed.body);
}

#[tokio::test]
async fn fields_that_are_not_sent_stay_while_many_are_changed_at_once() {
    let app = TestApp::with_demo().await;
    let rounds = (0..8).flat_map(|n| {
        [
            json!({ "company": format!("Demo {n}") }),
            json!({ "email": format!("n{n}@demo.test") }),
            json!({ "country": "DK", "vatId": "DK13585628" }),
        ]
    });

    let replies = join_all(rounds.map(|body| patch(&app, body))).await;

    assert!(replies.iter().all(|reply| reply.status == 200));
    let shown = show(&app).await.body;
    assert!(shown["company"].as_str().unwrap().starts_with("Demo "));
    assert!(shown["email"].as_str().unwrap().ends_with("@demo.test"));
    assert_eq!(
        (&shown["country"], &shown["vatId"]),
        (&json!("DK"), &json!("DK13585628"))
    );
    // One for each that changed anything: of the last kind only the first did.
    assert_eq!(app.tenant("demo").await.generation, 1 + 8 + 8 + 1);
}

#[tokio::test]
async fn if_match_takes_the_version_of_the_tenant_and_lets_one_of_two_win() {
    let app = TestApp::with_demo().await;
    let tenant = app.get("/tenants/demo").by(Caller::Owner).send().await;
    let say = |company: &str| {
        app.patch(PATH)
            .by(Caller::Owner)
            .header("if-match", tenant.etag())
            .json(&json!({ "company": company }))
            .send()
    };

    let replies = join_all([say("One"), say("Two")]).await;

    let mut found: Vec<String> = replies.iter().map(Reply::summary).collect();
    found.sort();
    assert_eq!(found, ["200", "412 precondition_failed"]);
}

#[tokio::test]
async fn what_changes_nothing_is_no_new_version_and_no_event() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "company": "Demo" })).await;
    let (before, actions) = (app.tenant("demo").await, app.actions().await);

    let same = patch(&app, json!({ "company": "Demo", "email": null })).await;
    let empty = patch(&app, json!({})).await;

    assert_eq!((same.status.as_u16(), empty.status.as_u16()), (200, 200));
    assert_eq!(same.etag(), "\"2.2\"");
    assert_eq!(app.tenant("demo").await, before);
    assert_eq!(app.actions().await, actions);
}

#[tokio::test]
async fn the_audit_trail_says_what_changed() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "company": "Demo" })).await;

    patch(&app, json!({ "company": "Demo A/S" })).await;

    let events = app.collection("audit_events");
    let event = events
        .find_one(doc! { "action": "tenant.billingInfo", "before.billingInfo.company": "Demo" })
        .await
        .unwrap()
        .unwrap();
    let event: Value = bson::deserialize_from_document(event).unwrap();
    assert_eq!(
        event["after"],
        json!({ "billingInfo": { "company": "Demo A/S" }, "generation": 3 })
    );
    assert_eq!(event["actor"]["kind"], "tenant");
}

#[tokio::test]
async fn a_tenant_that_is_to_be_removed_is_not_changed() {
    let app = TestApp::with_demo().await;

    for (status, code) in [
        ("terminating", "409 tenant_terminating"),
        ("terminated", "409 tenant_terminated"),
    ] {
        app.set_tenant("demo", doc! { "status": status }).await;
        for (path, body) in [
            (PATH, json!({ "company": "Demo" })),
            ("/tenants/demo/security-policy", json!({ "mfaMode": "off" })),
        ] {
            let reply = app.patch(path).by(Caller::Owner).json(&body).send().await;
            assert_eq!(reply.summary(), code, "{path}");
        }
        let branding = app
            .put("/tenants/demo/branding")
            .by(Caller::Owner)
            .json(&json!({}))
            .send()
            .await;
        assert_eq!(branding.summary(), code);
    }
}
