//! Partner management by operators.

mod attaching;
mod customers;
mod settings;
mod tenants;

use bson::doc;
use dezky_shared::partner::{Partner, PartnerStatus};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    client::{Reply, send_all},
};

async fn add(app: &TestApp, body: Value) -> Reply {
    app.operator().post("/partners", body).await
}

async fn edit(app: &TestApp, slug: &str, body: Value) -> Reply {
    app.operator()
        .patch(format!("/partners/{slug}"), body)
        .await
}

async fn terminate(app: &TestApp, slug: &str) -> Reply {
    app.operator().delete(format!("/partners/{slug}")).await
}

async fn partner(app: &TestApp, slug: &str) -> Partner {
    let found = app.state.db.partners.find_by_slug(slug).await;
    found.unwrap().unwrap()
}

#[tokio::test]
async fn creating_a_partner_returns_the_stored_partner() {
    let app = TestApp::with_operator().await;

    let reply = add(
        &app,
        json!({
            "slug": "nordic", "name": " Nordic IT ", "domain": "Nordic-IT.test.", "marginPct": 12.5,
            "contactInfo": { "name": "Ida", "email": "Ida@nordic-it.test", "phone": "+4512345678" },
            "billingInfo": { "company": "Nordic IT A/S", "country": "dk", "vatId": "dk13585628", "email": "pay@nordic-it.test" },
            "supportEmail": "help@nordic-it.test", "supportUrl": "https://help.nordic-it.dk", "defaultPlan": "business",
        }),
    )
    .await;
    let shown = app.operator().get("/partners/nordic").await;

    assert_eq!(reply.summary(), "201");
    assert_eq!(reply.header("location"), Some("/partners/nordic"));
    assert_eq!(shown.summary(), "200");
    assert_eq!((&shown.body, shown.etag()), (&reply.body, reply.etag()));
    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".createdAt" => "[time]", ".updatedAt" => "[time]",
    }, @r#"
    {
      "billingInfo": {
        "company": "Nordic IT A/S",
        "country": "DK",
        "email": "pay@nordic-it.test",
        "vatId": "DK13585628"
      },
      "branding": {},
      "contactInfo": {
        "email": "ida@nordic-it.test",
        "name": "Ida",
        "phone": "+4512345678"
      },
      "createdAt": "[time]",
      "defaultPlan": "business",
      "domain": "nordic-it.test",
      "id": "[id]",
      "marginPct": 12.5,
      "name": "Nordic IT",
      "revision": 1,
      "slug": "nordic",
      "status": "active",
      "supportEmail": "help@nordic-it.test",
      "supportUrl": "https://help.nordic-it.dk/",
      "updatedAt": "[time]"
    }
    "#);
    assert_eq!(partner(&app, "nordic").await.margin_basis_points, 1_250);
    assert_eq!(app.actions().await, ["user.create", "partner.create"]);
    assert_eq!(app.count("jobs").await, 0);
}

#[tokio::test]
async fn a_partner_requires_only_a_slug_and_a_name() {
    let app = TestApp::with_operator().await;

    let reply = add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    assert_eq!(reply.summary(), "201");
    assert_eq!(reply.body["marginPct"], 0.0);
    assert_eq!(reply.body["contactInfo"], json!({}));
}

#[tokio::test]
async fn partner_slugs_are_never_reused_and_may_equal_a_tenant_slug() {
    let app = TestApp::with_operator().await;
    let new = json!({ "slug": "acme", "name": "Acme" });
    assert_eq!(app.create("acme").await.summary(), "202");
    assert_eq!(add(&app, new.clone()).await.summary(), "201");

    let taken = add(&app, new.clone()).await;
    terminate(&app, "acme").await;
    let still_taken = add(&app, new).await;

    assert_eq!(taken.summary(), "409 slug_taken");
    assert_eq!(still_taken.summary(), "409 slug_taken");
    assert_eq!(app.count("partners").await, 1);
}

#[tokio::test]
async fn a_repeated_request_creates_one_partner() {
    let app = TestApp::with_operator().await;
    let add = || {
        app.operator()
            .post("/partners", json!({ "slug": "nordic", "name": "Nordic" }))
            .idempotency_key("one")
    };

    let (first, second) = (add().await, add().await);

    assert_eq!(
        (first.summary(), second.summary()),
        ("201".into(), "201".into())
    );
    assert_eq!(first.body, second.body);
    assert_eq!(second.header("location"), Some("/partners/nordic"));
    assert!(second.is_replayed());
    assert_eq!(app.count("partners").await, 1);
}

#[tokio::test]
async fn all_invalid_fields_of_a_partner_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_operator().await;
    let invalid = json!({
        "name": " ", "domain": "*.nordic.test", "marginPct": 12.345,
        "contactInfo": { "name": "", "email": "ida", "phone": "12345678" },
        "billingInfo": { "company": "x".repeat(121), "country": "Denmark", "vatId": "?", "email": "pay" },
        "supportEmail": "help", "supportUrl": "http://help.nordic.test", "defaultPlan": "gold",
    });
    let mut new = invalid.clone();
    new["slug"] = json!("WWW");
    let mut change = invalid;
    change["status"] = json!("terminated");
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;
    let before = partner(&app, "nordic").await;

    let added = add(&app, new).await;
    let edited = edit(&app, "nordic", change).await;

    let expected = [
        ("/billingInfo/company", "too_long"),
        ("/billingInfo/country", "invalid_country"),
        ("/billingInfo/email", "invalid_email"),
        ("/billingInfo/vatId", "invalid_vat_id"),
        ("/contactInfo/email", "invalid_email"),
        ("/contactInfo/name", "too_short"),
        ("/contactInfo/phone", "invalid_phone"),
        ("/defaultPlan", "invalid_plan"),
        ("/domain", "domain_wildcard"),
        ("/marginPct", "too_many_decimals"),
        ("/name", "too_short"),
    ];
    for (reply, own) in [
        (added, ("/slug", "invalid_slug")),
        (edited, ("/status", "invalid_status")),
    ] {
        assert_eq!(reply.summary(), "422 validation_failed");
        let mut found = reply.errors();
        found.sort_unstable();
        let mut expected = expected.to_vec();
        expected.extend([
            own,
            ("/supportEmail", "invalid_email"),
            ("/supportUrl", "invalid_url"),
        ]);
        assert_eq!(found, expected);
    }
    assert_eq!(app.count("partners").await, 1);
    assert_eq!(partner(&app, "nordic").await, before);
}

#[tokio::test]
async fn omitted_fields_are_kept_and_null_clears_them() {
    let app = TestApp::with_operator().await;
    add(
        &app,
        json!({
            "slug": "nordic", "name": "Nordic", "domain": "nordic.test", "marginPct": 7.25, "supportEmail": "help@nordic.test",
            "contactInfo": { "name": "Ida", "email": "ida@nordic.test" },
        }),
    )
    .await;

    let reply = edit(
        &app,
        "nordic",
        json!({ "domain": null, "contactInfo": { "name": null, "phone": "+4512345678" } }),
    )
    .await;

    assert_eq!(reply.summary(), "200");
    assert_eq!(reply.body["revision"], 2);
    assert_eq!(reply.body["domain"], Value::Null);
    assert_eq!(
        reply.body["contactInfo"],
        json!({ "email": "ida@nordic.test", "phone": "+4512345678" })
    );
    let kept = partner(&app, "nordic").await;
    assert_eq!(
        (kept.name.as_str(), kept.margin_basis_points),
        ("Nordic", 725)
    );
    assert_eq!(kept.support_email.as_deref(), Some("help@nordic.test"));
}

#[tokio::test]
async fn null_is_rejected_for_object_fields() {
    let app = TestApp::with_operator().await;
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    for (body, pointer) in [
        (json!({ "contactInfo": null }), "/contactInfo"),
        (json!({ "billingInfo": [] }), "/billingInfo"),
        (json!({ "name": null }), "/name"),
        (json!({ "marginPct": "12.5" }), "/marginPct"),
        (json!({ "slug": "other" }), "/slug"),
    ] {
        let reply = edit(&app, "nordic", body).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{pointer}");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn a_vat_id_is_validated_against_the_stored_country() {
    let app = TestApp::with_operator().await;
    let billing = json!({ "country": "DK", "vatId": "DK13585628" });
    add(
        &app,
        json!({ "slug": "nordic", "name": "Nordic", "billingInfo": billing }),
    )
    .await;
    let change =
        async |billing: Value| edit(&app, "nordic", json!({ "billingInfo": billing })).await;

    let other_id = change(json!({ "vatId": "SE123456789701" })).await;
    let other_country = change(json!({ "country": "SE" })).await;
    let both = change(json!({ "country": "SE", "vatId": "SE123456789701" })).await;
    let none = change(json!({ "vatId": null })).await;
    let moved = change(json!({ "country": "DE" })).await;

    for rejected in [other_id, other_country] {
        assert_eq!(rejected.summary(), "422 validation_failed");
        assert_eq!(rejected.errors()[0].0, "/billingInfo/vatId");
    }
    assert_eq!(both.summary(), "200", "{both:?}");
    assert_eq!(
        (none.summary(), moved.summary()),
        ("200".into(), "200".into())
    );
    assert_eq!(moved.body["billingInfo"], json!({ "country": "DE" }));
}

#[tokio::test]
async fn an_edit_is_audited_once_and_only_on_change() {
    let app = TestApp::with_operator().await;
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    let first = edit(&app, "nordic", json!({ "marginPct": 10, "name": "Nordic" })).await;
    let again = edit(&app, "nordic", json!({ "marginPct": 10.00 })).await;
    let stale = app
        .operator()
        .patch("/partners/nordic", json!({ "marginPct": 20 }))
        .if_match("\"1.1\"")
        .await;

    assert_eq!((first.etag(), again.etag()), ("\"2.2\"", "\"2.2\""));
    assert_eq!(stale.summary(), "412 precondition_failed");
    let event = app.audit_event("partner.update").await;
    assert_eq!(
        event.get_document("before").unwrap(),
        &doc! { "marginBasisPoints": 0 }
    );
    assert_eq!(
        event.get_document("after").unwrap(),
        &doc! { "marginBasisPoints": 1_000 }
    );
    let actor = event.get_document("actor").unwrap();
    assert_eq!(actor.get_str("kind").unwrap(), "operator");
    assert_eq!(app.actions().await.len(), 3);
}

#[tokio::test]
async fn concurrent_partner_edits_of_one_version_have_one_winner_per_round() {
    let app = TestApp::with_operator().await;
    let mut etag = add(&app, json!({ "slug": "nordic", "name": "Nordic" }))
        .await
        .etag()
        .to_owned();

    for round in 0..3 {
        let edits = (0..8).map(|n| {
            app.operator()
                .patch(
                    "/partners/nordic",
                    json!({ "name": format!("{round} {n}") }),
                )
                .if_match(&etag)
        });
        let replies = send_all(edits).await;

        let (won, lost): (Vec<_>, Vec<_>) = replies.iter().partition(|reply| reply.status == 200);
        assert_eq!(won.len(), 1, "{replies:?}");
        assert!(
            lost.iter()
                .all(|reply| reply.summary() == "412 precondition_failed")
        );
        won[0].etag().clone_into(&mut etag);
    }

    assert_eq!(partner(&app, "nordic").await.revision, 4);
}

#[tokio::test]
async fn concurrent_edits_of_different_fields_are_all_kept() {
    let app = TestApp::with_operator().await;
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;
    let edits = [
        json!({ "marginPct": 3 }),
        json!({ "domain": "nordic.test" }),
        json!({ "supportEmail": "help@nordic.test" }),
        json!({ "contactInfo": { "name": "Ida" } }),
        json!({ "contactInfo": { "phone": "+4512345678" } }),
        json!({ "billingInfo": { "country": "DK" } }),
    ];

    let replies = join_all(edits.map(|body| edit(&app, "nordic", body))).await;

    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{replies:?}"
    );
    let kept = partner(&app, "nordic").await;
    assert_eq!((kept.revision, kept.margin_basis_points), (7, 300));
    assert_eq!(kept.domain.as_deref(), Some("nordic.test"));
    assert_eq!(kept.support_email.as_deref(), Some("help@nordic.test"));
    assert_eq!(kept.contact_info.name.as_deref(), Some("Ida"));
    assert_eq!(kept.contact_info.phone.as_deref(), Some("+4512345678"));
    assert_eq!(kept.billing_info.country.as_deref(), Some("DK"));
}

#[tokio::test]
async fn a_terminated_partner_is_kept_and_can_be_reactivated() {
    let app = TestApp::with_operator().await;
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    let ended = terminate(&app, "nordic").await;
    let again = terminate(&app, "nordic").await;
    let shown = app.operator().get("/partners/nordic").await;
    let back = edit(&app, "nordic", json!({ "status": "active" })).await;

    assert_eq!(
        (ended.summary(), again.summary()),
        ("200".into(), "200".into())
    );
    assert_eq!(ended.body["status"], "terminated");
    assert_eq!((&again.body, &shown.body), (&ended.body, &ended.body));
    assert_eq!(back.body["status"], "active", "{back:?}");
    assert_eq!(partner(&app, "nordic").await.status, PartnerStatus::Active);
    let actions = app.actions().await;
    assert_eq!(
        actions[1..],
        ["partner.create", "partner.delete", "partner.update"]
    );
}

#[tokio::test]
async fn an_unknown_partner_is_not_found() {
    let app = TestApp::with_operator().await;

    for path in [
        "/partners/nope",
        "/partners/NOPE%00",
        "/partners/nope/tenants",
    ] {
        let reply = app.operator().get(path).await;
        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
    assert_eq!(
        edit(&app, "nope", json!({})).await.summary(),
        "404 not_found"
    );
    assert_eq!(terminate(&app, "nope").await.summary(), "404 not_found");
}
