//! Partners, as operators keep them.

mod attaching;
mod customers;
mod settings;
mod tenants;

use bson::doc;
use dezky_shared::partner::{Partner, PartnerStatus};
use dezky_sim::callers::Caller;
use futures::future::join_all;
use http::Method;
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp},
    everyone::Who,
};

/// The app, and an operator.
async fn operator() -> TestApp {
    let app = TestApp::start().await;
    app.sign_in(Caller::Operator).await;
    app
}

async fn add(app: &TestApp, body: Value) -> Reply {
    let call = app.post("/partners").by(Caller::Operator);
    call.json(&body).send().await
}

async fn edit(app: &TestApp, slug: &str, body: Value) -> Reply {
    let call = app.patch(&format!("/partners/{slug}")).by(Caller::Operator);
    call.json(&body).send().await
}

async fn terminate(app: &TestApp, slug: &str) -> Reply {
    let call = app.delete(&format!("/partners/{slug}"));
    call.by(Caller::Operator).send().await
}

/// A request by one of everybody.
async fn ask(app: &TestApp, who: Who, method: Method, path: &str, body: Option<Value>) -> Reply {
    let token = app.token(&who.token().unwrap());
    let call = app.call(method, path).token(&token);
    match body {
        Some(body) => call.json(&body).send().await,
        None => call.send().await,
    }
}

async fn partner(app: &TestApp, slug: &str) -> Partner {
    let found = app.state.partners.find_by_slug(slug).await;
    found.unwrap().unwrap()
}

/// The pointers and codes of all errors.
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
async fn a_new_partner_is_complete_when_it_is_answered() {
    let app = operator().await;

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
    let shown = app
        .get("/partners/nordic")
        .by(Caller::Operator)
        .send()
        .await;

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
async fn a_slug_and_a_name_are_all_that_a_partner_needs() {
    let app = operator().await;

    let reply = add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    assert_eq!(reply.summary(), "201");
    assert_eq!(reply.body["marginPct"], 0.0);
    assert_eq!(reply.body["contactInfo"], json!({}));
}

#[tokio::test]
async fn a_slug_is_one_partners_for_ever_and_may_be_a_tenants_too() {
    let app = operator().await;
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
async fn a_repeated_request_adds_one_partner() {
    let app = operator().await;
    let add = || {
        app.post("/partners")
            .by(Caller::Operator)
            .header("idempotency-key", "one")
            .json(&json!({ "slug": "nordic", "name": "Nordic" }))
            .send()
    };

    let (first, second) = (add().await, add().await);

    assert_eq!(
        (first.summary(), second.summary()),
        ("201".into(), "201".into())
    );
    assert_eq!(first.body, second.body);
    assert_eq!(second.header("location"), Some("/partners/nordic"));
    assert_eq!(second.header("idempotency-replayed"), Some("true"));
    assert_eq!(app.count("partners").await, 1);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_partner_is_told_at_once_and_nothing_is_stored() {
    let app = operator().await;
    let wrong = json!({
        "name": " ", "domain": "*.nordic.test", "marginPct": 12.345,
        "contactInfo": { "name": "", "email": "ida", "phone": "12345678" },
        "billingInfo": { "company": "x".repeat(121), "country": "Denmark", "vatId": "?", "email": "pay" },
        "supportEmail": "help", "supportUrl": "http://help.nordic.test", "defaultPlan": "gold",
    });
    let mut new = wrong.clone();
    new["slug"] = json!("WWW");
    let mut change = wrong;
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
        let mut found = errors(&reply);
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
async fn what_is_missing_from_an_edit_stays_and_null_removes() {
    let app = operator().await;
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
async fn what_has_to_be_an_object_is_not_null() {
    let app = operator().await;
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
async fn a_vat_id_goes_with_the_country_that_is_stored() {
    let app = operator().await;
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

    for refused in [other_id, other_country] {
        assert_eq!(refused.summary(), "422 validation_failed");
        assert_eq!(errors(&refused)[0].0, "/billingInfo/vatId");
    }
    assert_eq!(both.summary(), "200", "{both:?}");
    assert_eq!(
        (none.summary(), moved.summary()),
        ("200".into(), "200".into())
    );
    assert_eq!(moved.body["billingInfo"], json!({ "country": "DE" }));
}

#[tokio::test]
async fn an_edit_is_recorded_once_and_only_if_it_changes_something() {
    let app = operator().await;
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    let first = edit(&app, "nordic", json!({ "marginPct": 10, "name": "Nordic" })).await;
    let again = edit(&app, "nordic", json!({ "marginPct": 10.00 })).await;
    let stale = app
        .patch("/partners/nordic")
        .by(Caller::Operator)
        .header("if-match", "\"1.1\"")
        .json(&json!({ "marginPct": 20 }))
        .send()
        .await;

    assert_eq!((first.etag(), again.etag()), ("\"2.2\"", "\"2.2\""));
    assert_eq!(stale.summary(), "412 precondition_failed");
    let events = app.collection("audit_events");
    let event = events.find_one(doc! { "action": "partner.update" }).await;
    let event = event.unwrap().unwrap();
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
async fn of_many_who_mean_one_version_one_wins_each_round() {
    let app = operator().await;
    let mut etag = add(&app, json!({ "slug": "nordic", "name": "Nordic" }))
        .await
        .etag()
        .to_owned();

    for round in 0..3 {
        let edits = (0..8).map(|n| {
            app.patch("/partners/nordic")
                .by(Caller::Operator)
                .header("if-match", &etag)
                .json(&json!({ "name": format!("{round} {n}") }))
                .send()
        });
        let replies = join_all(edits).await;

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
async fn edits_of_different_fields_at_once_are_all_kept() {
    let app = operator().await;
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
async fn a_terminated_partner_stays_and_can_be_brought_back() {
    let app = operator().await;
    add(&app, json!({ "slug": "nordic", "name": "Nordic" })).await;

    let ended = terminate(&app, "nordic").await;
    let again = terminate(&app, "nordic").await;
    let shown = app
        .get("/partners/nordic")
        .by(Caller::Operator)
        .send()
        .await;
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
async fn a_partner_that_does_not_exist_is_not_found() {
    let app = operator().await;

    for path in [
        "/partners/nope",
        "/partners/NOPE%00",
        "/partners/nope/tenants",
    ] {
        let reply = app.get(path).by(Caller::Operator).send().await;
        assert_eq!(reply.summary(), "404 not_found", "{path}");
    }
    assert_eq!(
        edit(&app, "nope", json!({})).await.summary(),
        "404 not_found"
    );
    assert_eq!(terminate(&app, "nope").await.summary(), "404 not_found");
}
