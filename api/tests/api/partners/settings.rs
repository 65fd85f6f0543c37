//! What a partner says about itself.

use bson::doc;
use http::Method;
use serde_json::{Value, json};

use super::{ask, errors, partner};
use crate::{app::TestApp, everyone::Who};

const STAFF: [(Who, &str); 4] = [
    (Who::PartnerOwner, "owner"),
    (Who::PartnerManager, "manager"),
    (Who::PartnerSupport, "support"),
    (Who::PartnerReadOnly, "read-only"),
];

#[tokio::test]
async fn staff_are_told_whom_they_work_for_and_what_they_may_do() {
    let app = TestApp::with_everyone().await;

    for (who, level) in STAFF {
        let reply = ask(&app, who, Method::GET, "/partner", None).await;

        assert_eq!(reply.summary(), "200", "{who:?}");
        assert_eq!(reply.body["slug"], "nordic");
        assert_eq!(reply.body["accessLevel"], level);
        assert_eq!(reply.body["marginPct"], Value::Null);
    }
}

#[tokio::test]
async fn nobody_is_staff_who_works_for_no_partner() {
    let app = TestApp::with_everyone().await;

    for who in [Who::Stranger, Who::Owner, Who::FormerPartner, Who::Operator] {
        let reply = ask(&app, who, Method::GET, "/partner", None).await;

        assert_eq!(reply.summary(), "403 forbidden", "{who:?}");
    }
}

#[tokio::test]
async fn a_manager_edits_the_settings_of_their_own_partner_alone() {
    let app = TestApp::with_everyone().await;
    let other = partner(&app, "elsewhere").await;
    let change = json!({
        "name": "Nordic", "supportUrl": "https://help.nordic.dk/", "defaultPlan": "enterprise", "contactInfo": { "name": "Ida" },
    });

    let edited = ask(
        &app,
        Who::PartnerManager,
        Method::PATCH,
        "/partner/settings",
        Some(change),
    )
    .await;
    let shown = ask(
        &app,
        Who::PartnerOwner,
        Method::GET,
        "/partner/settings",
        None,
    )
    .await;

    assert_eq!(edited.summary(), "200");
    assert_eq!((&shown.body, shown.etag()), (&edited.body, edited.etag()));
    insta::assert_json_snapshot!(shown.body, @r#"
    {
      "billingInfo": {},
      "contactInfo": {
        "name": "Ida"
      },
      "defaultPlan": "enterprise",
      "marginPct": 12.5,
      "name": "Nordic",
      "supportUrl": "https://help.nordic.dk/"
    }
    "#);
    assert_eq!(partner(&app, "elsewhere").await, other);
    let events = app.collection("audit_events");
    let event = events.find_one(doc! { "action": "partner.update" }).await;
    let event = event.unwrap().unwrap();
    assert_eq!(
        event
            .get_document("actor")
            .unwrap()
            .get_str("kind")
            .unwrap(),
        "partner"
    );
    assert_eq!(
        event
            .get_document("target")
            .unwrap()
            .get_str("name")
            .unwrap(),
        "nordic"
    );
    assert_eq!(event.get("tenantId"), None);
}

#[tokio::test]
async fn the_terms_of_a_partner_are_the_operators_to_change() {
    let app = TestApp::with_everyone().await;
    let before = partner(&app, "nordic").await;

    for body in [
        json!({ "marginPct": 99 }),
        json!({ "status": "active" }),
        json!({ "name": "x", "marginPct": 1 }),
    ] {
        let reply = ask(
            &app,
            Who::PartnerOwner,
            Method::PATCH,
            "/partner/settings",
            Some(body),
        )
        .await;

        assert_eq!(reply.summary(), "403 forbidden");
    }
    assert_eq!(partner(&app, "nordic").await, before);
}

#[tokio::test]
async fn who_only_helps_or_reads_neither_sees_nor_edits_the_settings() {
    let app = TestApp::with_everyone().await;
    let before = partner(&app, "nordic").await;

    for who in [Who::PartnerSupport, Who::PartnerReadOnly] {
        let shown = ask(&app, who, Method::GET, "/partner/settings", None).await;
        let edited = ask(
            &app,
            who,
            Method::PATCH,
            "/partner/settings",
            Some(json!({ "name": "x" })),
        )
        .await;
        let look = json!({ "productName": "x" });
        let branded = ask(&app, who, Method::PUT, "/partner/branding", Some(look)).await;

        for reply in [shown, edited, branded] {
            assert_eq!(reply.summary(), "403 forbidden", "{who:?}");
        }
    }
    assert_eq!(partner(&app, "nordic").await, before);
}

#[tokio::test]
async fn a_look_replaces_the_one_before_and_is_seen_by_all_staff() {
    let app = TestApp::with_everyone().await;
    let put = async |look: Value| {
        ask(
            &app,
            Who::PartnerOwner,
            Method::PUT,
            "/partner/branding",
            Some(look),
        )
        .await
    };

    let first = put(json!({ "productName": "Nordic Workspace", "accentColor": "#FFEE00", "logoUrl": "https://cdn.nordic.dk/logo.svg" })).await;
    let second = put(json!({ "accentColor": "#001122", "logoUrl": null })).await;
    let shown = ask(
        &app,
        Who::PartnerReadOnly,
        Method::GET,
        "/partner/branding",
        None,
    )
    .await;
    let none = put(json!({})).await;

    assert_eq!(
        first.body,
        json!({
            "productName": "Nordic Workspace", "accentColor": "#ffee00", "accentTextColor": "#000000",
            "logoUrl": "https://cdn.nordic.dk/logo.svg",
        })
    );
    assert_eq!(
        second.body,
        json!({ "accentColor": "#001122", "accentTextColor": "#ffffff" })
    );
    assert_eq!((&shown.body, shown.etag()), (&second.body, second.etag()));
    assert_eq!(none.body, json!({}));
}

#[tokio::test]
async fn a_look_is_not_replaced_by_who_knows_an_older_one() {
    let app = TestApp::with_everyone().await;
    let token = app.token(&Who::PartnerOwner.token().unwrap());
    let put = |name: &str| {
        let call = app.call(Method::PUT, "/partner/branding").token(&token);
        call.header("if-match", "\"1.1\"")
            .json(&json!({ "productName": name }))
            .send()
    };

    let first = put("One").await;
    let second = put("Two").await;

    assert_eq!(first.summary(), "200");
    assert_eq!(second.summary(), "412 precondition_failed");
    let kept = partner(&app, "nordic").await.branding.product_name;
    assert_eq!(kept.as_deref(), Some("One"));
}

#[tokio::test]
async fn all_that_is_wrong_with_a_look_is_told_at_once_and_nothing_is_stored() {
    let app = TestApp::with_everyone().await;
    let before = partner(&app, "nordic").await;
    let look =
        json!({ "productName": "", "accentColor": "red", "logoUrl": "http://nordic.dk/logo.svg" });

    let reply = ask(
        &app,
        Who::PartnerOwner,
        Method::PUT,
        "/partner/branding",
        Some(look),
    )
    .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let expected = [
        ("/productName", "too_short"),
        ("/accentColor", "invalid_color"),
        ("/logoUrl", "invalid_url"),
    ];
    assert_eq!(errors(&reply), expected);
    assert_eq!(partner(&app, "nordic").await, before);
}
