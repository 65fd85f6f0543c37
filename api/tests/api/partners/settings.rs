//! Settings and branding of the caller's own partner.

use serde_json::{Value, json};

use super::partner;
use crate::{app::TestApp, personas::Persona};

const STAFF: [(Persona, &str); 4] = [
    (Persona::PartnerOwner, "owner"),
    (Persona::PartnerManager, "manager"),
    (Persona::PartnerSupport, "support"),
    (Persona::PartnerReadOnly, "read-only"),
];

#[tokio::test]
async fn staff_see_their_partner_and_permissions() {
    let app = TestApp::with_personas().await;

    for (persona, level) in STAFF {
        let reply = app.client(persona).get("/partner").await;

        assert_eq!(reply.summary(), "200", "{persona:?}");
        assert_eq!(reply.body["slug"], "nordic");
        assert_eq!(reply.body["accessLevel"], level);
        assert_eq!(reply.body["marginPct"], Value::Null);
    }
}

#[tokio::test]
async fn a_caller_without_a_partner_is_not_staff() {
    let app = TestApp::with_personas().await;

    for persona in [
        Persona::Stranger,
        Persona::Owner,
        Persona::FormerPartner,
        Persona::Operator,
    ] {
        let reply = app.client(persona).get("/partner").await;

        assert_eq!(reply.summary(), "403 forbidden", "{persona:?}");
    }
}

#[tokio::test]
async fn a_manager_edits_only_their_own_partners_settings() {
    let app = TestApp::with_personas().await;
    let other = partner(&app, "elsewhere").await;
    let change = json!({
        "name": "Nordic", "supportUrl": "https://help.nordic.dk/", "defaultPlan": "enterprise", "contactInfo": { "name": "Ida" },
    });

    let edited = app
        .client(Persona::PartnerManager)
        .patch("/partner/settings", change)
        .await;
    let shown = app
        .client(Persona::PartnerOwner)
        .get("/partner/settings")
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
    let event = app.audit_event("partner.update").await;
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
async fn partner_terms_can_be_changed_by_operators_only() {
    let app = TestApp::with_personas().await;
    let before = partner(&app, "nordic").await;

    for body in [
        json!({ "marginPct": 99 }),
        json!({ "status": "active" }),
        json!({ "name": "x", "marginPct": 1 }),
    ] {
        let reply = app
            .client(Persona::PartnerOwner)
            .patch("/partner/settings", body)
            .await;

        assert_eq!(reply.summary(), "403 forbidden");
    }
    assert_eq!(partner(&app, "nordic").await, before);
}

#[tokio::test]
async fn support_and_read_only_staff_cannot_access_partner_settings() {
    let app = TestApp::with_personas().await;
    let before = partner(&app, "nordic").await;

    for persona in [Persona::PartnerSupport, Persona::PartnerReadOnly] {
        let shown = app.client(persona).get("/partner/settings").await;
        let edited = app
            .client(persona)
            .patch("/partner/settings", json!({ "name": "x" }))
            .await;
        let branding = json!({ "productName": "x" });
        let branded = app.client(persona).put("/partner/branding", branding).await;

        for reply in [shown, edited, branded] {
            assert_eq!(reply.summary(), "403 forbidden", "{persona:?}");
        }
    }
    assert_eq!(partner(&app, "nordic").await, before);
}

#[tokio::test]
async fn put_replaces_the_branding_and_all_staff_see_it() {
    let app = TestApp::with_personas().await;
    let put = async |branding: Value| {
        app.client(Persona::PartnerOwner)
            .put("/partner/branding", branding)
            .await
    };

    let first = put(json!({ "productName": "Nordic Workspace", "accentColor": "#FFEE00", "logoUrl": "https://cdn.nordic.dk/logo.svg" })).await;
    let second = put(json!({ "accentColor": "#001122", "logoUrl": null })).await;
    let shown = app
        .client(Persona::PartnerReadOnly)
        .get("/partner/branding")
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
async fn a_stale_if_match_rejects_a_branding_update() {
    let app = TestApp::with_personas().await;
    let client = app.client(Persona::PartnerOwner);
    let put = |name: &str| {
        let body = json!({ "productName": name });
        client.put("/partner/branding", body).if_match("\"1.1\"")
    };

    let first = put("One").await;
    let second = put("Two").await;

    assert_eq!(first.summary(), "200");
    assert_eq!(second.summary(), "412 precondition_failed");
    let kept = partner(&app, "nordic").await.branding.product_name;
    assert_eq!(kept.as_deref(), Some("One"));
}

#[tokio::test]
async fn all_invalid_branding_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_personas().await;
    let before = partner(&app, "nordic").await;
    let branding =
        json!({ "productName": "", "accentColor": "red", "logoUrl": "http://nordic.dk/logo.svg" });

    let reply = app
        .client(Persona::PartnerOwner)
        .put("/partner/branding", branding)
        .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let expected = [
        ("/productName", "too_short"),
        ("/accentColor", "invalid_color"),
        ("/logoUrl", "invalid_url"),
    ];
    assert_eq!(reply.errors(), expected);
    assert_eq!(partner(&app, "nordic").await, before);
}
