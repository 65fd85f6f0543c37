//! Branding of a tenant's workspace.

use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

const PATH: &str = "/tenants/demo/branding";

async fn put(app: &TestApp, body: Value) -> Reply {
    app.owner().put(PATH, &body).await
}

#[tokio::test]
async fn put_replaces_the_whole_branding() {
    let app = TestApp::with_demo().await;
    let jobs = app.count("jobs").await;

    let first = put(
        &app,
        json!({
            "productName": " Desk ", "accentColor": "#FFCC00", "logoUrl": "https://CDN.demo.test/logo.svg",
            "emailTemplates": {
                "invite": { "subject": "Join {{tenantName}}", "body": "Hello {{ name }},\n{{link}}" },
            },
        }),
    )
    .await;
    let second = put(&app, json!({ "accentColor": "#102030", "logoUrl": null })).await;

    assert_eq!(first.status, 200);
    assert_eq!(
        first.body,
        json!({
            "productName": "Desk", "accentColor": "#ffcc00", "accentTextColor": "#000000",
            "logoUrl": "https://cdn.demo.test/logo.svg",
            "emailTemplates": {
                "invite": { "subject": "Join {{tenantName}}", "body": "Hello {{ name }},\n{{link}}" },
            },
        })
    );
    let kept =
        json!({ "accentColor": "#102030", "accentTextColor": "#ffffff", "emailTemplates": {} });
    assert_eq!(second.body, kept);
    let shown = app.member().get(PATH).await;
    assert_eq!((&shown.body, shown.etag()), (&kept, second.etag()));
    assert_eq!(app.count("jobs").await, jobs);
    assert!(app.actions().await.contains(&"tenant.branding".to_owned()));
}

#[tokio::test]
async fn a_tenant_embeds_its_branding_without_email_templates() {
    let app = TestApp::with_demo().await;
    put(
        &app,
        json!({
            "accentColor": "#ffffff",
            "emailTemplates": { "welcome": { "subject": "Hello", "body": "Hello" } },
        }),
    )
    .await;

    let tenant = app.member().get("/tenants/demo").await;

    let branding = json!({ "accentColor": "#ffffff", "accentTextColor": "#000000" });
    assert_eq!(tenant.body["branding"], branding);
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;

    let reply = put(
        &app,
        json!({
            "productName": "", "accentColor": "red", "logoUrl": "http://demo.test/logo.svg",
            "emailTemplates": {
                "invite": { "subject": "{{loginUrl}} {{link", "body": "{{name}} {{unknown}} {{loginUrl}}" },
                "welcome": { "subject": "two\nlines", "body": " " },
                "recovery": { "subject": "Sign in again", "body": "}}" },
            },
        }),
    )
    .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(
        reply.errors(),
        [
            ("/productName", "too_short"),
            ("/accentColor", "invalid_color"),
            ("/logoUrl", "invalid_url"),
            ("/emailTemplates/invite/subject", "unbalanced_placeholder"),
            ("/emailTemplates/invite/subject", "unknown_placeholder"),
            ("/emailTemplates/invite/body", "unknown_placeholder"),
            ("/emailTemplates/invite/body", "unknown_placeholder"),
            ("/emailTemplates/welcome/subject", "invalid_characters"),
            ("/emailTemplates/welcome/body", "too_short"),
            ("/emailTemplates/recovery/body", "unbalanced_placeholder"),
        ]
    );
    let message = reply.body["errors"][4]["message"].as_str().unwrap();
    assert!(message.starts_with("{{loginUrl}}"), "{message}");
    assert_eq!(app.tenant("demo").await, before);
}

#[tokio::test]
async fn unknown_and_read_only_fields_are_rejected() {
    let app = TestApp::with_demo().await;
    let text = json!({ "subject": "Hello", "body": "Hello" });

    for (body, pointer) in [
        (json!({ "accentTextColor": "#000000" }), "/accentTextColor"),
        (
            json!({ "emailTemplates": { "farewell": text } }),
            "/emailTemplates/farewell",
        ),
        (
            json!({ "emailTemplates": { "invite": { "subject": "Hello" } } }),
            "/emailTemplates/invite/body",
        ),
        (json!({ "emailTemplates": [] }), "/emailTemplates"),
    ] {
        let reply = put(&app, body.clone()).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{body}");
        assert_eq!(reply.body["errors"][0]["pointer"], pointer);
    }
}

#[tokio::test]
async fn cors_allows_put_from_an_allowed_origin() {
    let origin = "https://portal.test";
    let issuer = crate::app::own_issuer().await;
    let app = TestApp::start_with(issuer, |config| {
        config.cors_allowed_origins = vec![origin.parse().unwrap()];
    })
    .await;

    let reply = app
        .anonymous()
        .request(http::Method::OPTIONS, PATH)
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .await;

    let methods = reply.header("access-control-allow-methods").unwrap();
    assert!(methods.contains("PUT"), "{methods}");
}
