//! Billing info of a tenant.

use bson::doc;
use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::{Reply, send_all, sorted_summaries};

const PATH: &str = "/tenants/demo/billing-info";

async fn patch(app: &TestApp, body: Value) -> Reply {
    app.owner().patch(PATH, &body).await
}

async fn show(app: &TestApp) -> Reply {
    app.owner().get(PATH).await
}

#[tokio::test]
async fn an_owner_sets_the_billing_info() {
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
async fn billing_info_is_embedded_in_the_tenant_for_writers_only() {
    let app = TestApp::with_demo().await;
    app.with_partner("support").await;
    patch(&app, json!({ "company": "Demo A/S" })).await;

    for (caller, is_shown) in [
        (Caller::Owner, true),
        (Caller::Operator, true),
        (Caller::Member, false),
        (Caller::Partner, false),
    ] {
        let tenant = app.client(caller).get("/tenants/demo").await;
        let list = app.client(caller).get("/tenants").await;

        for shown in [&tenant.body, &list.body["items"][0]] {
            let expected = if is_shown {
                json!({ "company": "Demo A/S" })
            } else {
                Value::Null
            };
            assert_eq!(shown["billingInfo"], expected, "{caller:?}");
        }
    }
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;

    let reply = patch(
        &app,
        json!({ "company": " ", "vatId": "DK12345678", "country": "XX", "email": "invalid" }),
    )
    .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(
        reply.errors(),
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
async fn malformed_bodies_are_rejected() {
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
async fn a_vat_id_is_validated_against_the_resulting_country() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "country": "DK", "vatId": "DK13585628" })).await;

    let foreign = patch(&app, json!({ "vatId": "DE136695976" })).await;
    let foreign_and_invalid = json!({ "vatId": "DE136695976", "email": "invalid" });
    let foreign_and_invalid = patch(&app, foreign_and_invalid).await;
    let invalid_country = patch(&app, json!({ "country": "XX" })).await;
    let moved = patch(&app, json!({ "country": "DE" })).await;
    let both = patch(&app, json!({ "country": "DE", "vatId": "DK13585628" })).await;
    let unknown = patch(&app, json!({ "vatId": "12345678" })).await;
    let kept = show(&app).await.body;
    let gone = patch(&app, json!({ "country": null })).await;
    let valid = patch(&app, json!({ "country": "DE", "vatId": "DE136695976" })).await;

    assert_eq!(foreign.errors(), [("/vatId", "wrong_vat_country")]);
    assert_eq!(
        foreign_and_invalid.errors(),
        [("/email", "invalid_email"), ("/vatId", "wrong_vat_country")]
    );
    assert_eq!(invalid_country.errors(), [("/country", "invalid_country")]);
    assert_eq!(moved.errors(), [("/country", "wrong_vat_country")]);
    assert_eq!(both.errors(), [("/vatId", "wrong_vat_country")]);
    assert_eq!(unknown.errors(), [("/vatId", "unknown_vat_country")]);
    assert_eq!(kept, json!({ "country": "DK", "vatId": "DK13585628" }));
    assert_eq!(gone.body, json!({ "vatId": "DK13585628" }));
    assert_eq!(
        valid.body,
        json!({ "country": "DE", "vatId": "DE136695976" })
    );
}

#[tokio::test]
async fn a_precondition_failure_is_not_stored_under_the_idempotency_key() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "country": "DK" })).await;
    let patch_once = || {
        app.owner()
            .patch(PATH, json!({ "vatId": "DE136695976" }))
            .idempotency_key("vat-id")
    };

    let rejected = patch_once().await;
    patch(&app, json!({ "country": "DE" })).await;
    let taken = patch_once().await;
    let replayed = patch_once().await;

    assert_eq!(rejected.status, 422);
    assert_eq!(
        (taken.status.as_u16(), replayed.status.as_u16()),
        (200, 200)
    );
    assert!(replayed.is_replayed());
    assert_eq!(taken.body, replayed.body);
}

#[tokio::test]
async fn concurrent_patches_keep_omitted_fields() {
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
    // One event per effective change: repeated values are not audited.
    assert_eq!(app.tenant("demo").await.generation, 1 + 8 + 8 + 1);
}

#[tokio::test]
async fn if_match_with_the_tenants_etag_lets_one_of_two_edits_win() {
    let app = TestApp::with_demo().await;
    let tenant = app.owner().get("/tenants/demo").await;
    let patch_with = |company: &str| {
        app.owner()
            .patch(PATH, json!({ "company": company }))
            .if_match(tenant.etag())
    };

    let replies = send_all([patch_with("One"), patch_with("Two")]).await;

    let found = sorted_summaries(&replies);
    assert_eq!(found, ["200", "412 precondition_failed"]);
}

#[tokio::test]
async fn an_update_without_changes_keeps_the_version_and_is_not_audited() {
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
async fn the_audit_event_contains_the_changed_fields() {
    let app = TestApp::with_demo().await;
    patch(&app, json!({ "company": "Demo" })).await;

    patch(&app, json!({ "company": "Demo A/S" })).await;

    let event = app.audit_event("tenant.billingInfo").await;
    let event: Value = bson::deserialize_from_document(event).unwrap();
    assert_eq!(
        event["after"],
        json!({ "billingInfo": { "company": "Demo A/S" }, "generation": 3 })
    );
    assert_eq!(event["actor"]["kind"], "tenant");
}

#[tokio::test]
async fn a_terminating_tenant_cannot_be_edited() {
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
            let reply = app.owner().patch(path, &body).await;
            assert_eq!(reply.summary(), code, "{path}");
        }
        let branding = app.owner().put("/tenants/demo/branding", json!({})).await;
        assert_eq!(branding.summary(), code);
    }
}
