//! How a tenant's workspace looks.

use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp};

const PATH: &str = "/tenants/demo/branding";

async fn put(app: &TestApp, body: Value) -> Reply {
    app.put(PATH).by(Caller::Owner).json(&body).send().await
}

#[tokio::test]
async fn what_is_put_takes_the_place_of_all_that_was_there() {
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
    let shown = app.get(PATH).by(Caller::Member).send().await;
    assert_eq!((&shown.body, shown.etag()), (&kept, second.etag()));
    assert_eq!(app.count("jobs").await, jobs);
    assert!(app.actions().await.contains(&"tenant.branding".to_owned()));
}

#[tokio::test]
async fn the_tenant_shows_everybody_how_it_looks_without_the_texts_of_its_mail() {
    let app = TestApp::with_demo().await;
    put(
        &app,
        json!({
            "accentColor": "#ffffff",
            "emailTemplates": { "welcome": { "subject": "Hello", "body": "Hello" } },
        }),
    )
    .await;

    let tenant = app.get("/tenants/demo").by(Caller::Member).send().await;

    let look = json!({ "accentColor": "#ffffff", "accentTextColor": "#000000" });
    assert_eq!(tenant.body["branding"], look);
}

#[tokio::test]
async fn all_that_is_wrong_is_named_at_once_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;

    let reply = put(
        &app,
        json!({
            "productName": "", "accentColor": "red", "logoUrl": "http://demo.test/logo.svg",
            "emailTemplates": {
                "invite": { "subject": "{{loginUrl}} {{link", "body": "{{name}} {{nobody}} {{loginUrl}}" },
                "welcome": { "subject": "two\nlines", "body": " " },
                "recovery": { "subject": "Sign in again", "body": "}}" },
            },
        }),
    )
    .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let errors = reply.body["errors"].as_array().unwrap().iter();
    let found: Vec<String> = errors
        .map(|error| {
            let text = |name: &str| error[name].as_str().unwrap();
            format!("{} {}", text("pointer"), text("code"))
        })
        .collect();
    assert_eq!(
        found,
        [
            "/productName too_short",
            "/accentColor invalid_color",
            "/logoUrl invalid_url",
            "/emailTemplates/invite/subject unbalanced_placeholder",
            "/emailTemplates/invite/subject unknown_placeholder",
            "/emailTemplates/invite/body unknown_placeholder",
            "/emailTemplates/invite/body unknown_placeholder",
            "/emailTemplates/welcome/subject invalid_characters",
            "/emailTemplates/welcome/body too_short",
            "/emailTemplates/recovery/body unbalanced_placeholder",
        ]
    );
    let message = reply.body["errors"][4]["message"].as_str().unwrap();
    assert!(message.starts_with("{{loginUrl}} means nothing here."));
    assert_eq!(app.tenant("demo").await, before);
}

#[tokio::test]
async fn what_is_not_known_or_only_computed_is_not_taken() {
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
async fn a_page_from_elsewhere_may_put_where_cors_allows_it() {
    let origin = "https://portal.test";
    let issuer = crate::app::own_issuer().await;
    let app = TestApp::start_with(issuer, |config| {
        config.cors_allowed_origins = vec![origin.parse().unwrap()];
    })
    .await;

    let reply = app
        .call(http::Method::OPTIONS, PATH)
        .header("origin", origin)
        .header("access-control-request-method", "PUT")
        .send()
        .await;

    let methods = reply.header("access-control-allow-methods").unwrap();
    assert!(methods.contains("PUT"), "{methods}");
}
