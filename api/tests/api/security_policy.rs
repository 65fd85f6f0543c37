//! Sign-in security policy of a tenant.

use dezky_sim::callers::Caller;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::TestApp;
use crate::client::Reply;

const PATH: &str = "/tenants/demo/security-policy";

async fn patch(app: &TestApp, body: Value) -> Reply {
    app.owner().patch(PATH, &body).await
}

#[tokio::test]
async fn every_security_rule_is_marked_as_planned() {
    let app = TestApp::with_demo().await;

    let shown = app.owner().get(PATH).await;

    assert_eq!(
        shown.body,
        json!({
            "mfaMode": "optional", "allowedCountries": [], "ipAllowlist": [],
            "enforcement": {
                "mfaMode": "planned", "sessionIdleMinutes": "planned", "sessionAbsoluteMinutes": "planned",
                "allowedCountries": "planned", "ipAllowlist": "planned",
            },
        })
    );
}

#[tokio::test]
async fn a_security_policy_is_normalized_and_not_yet_enforced() {
    let app = TestApp::with_demo().await;

    let set = patch(
        &app,
        json!({
            "mfaMode": "required", "sessionIdleMinutes": 30, "sessionAbsoluteMinutes": 30,
            "allowedCountries": ["dk", "GL"],
            "ipAllowlist": ["203.0.113.0/24", "198.51.100.7", "2001:DB8::/32", "2001:db8:1::1"],
        }),
    )
    .await;

    assert_eq!(set.status, 200, "{set:?}");
    assert_eq!(set.body["allowedCountries"], json!(["DK", "GL"]));
    assert_eq!(
        set.body["ipAllowlist"],
        json!([
            "203.0.113.0/24",
            "198.51.100.7/32",
            "2001:db8::/32",
            "2001:db8:1::1/128"
        ])
    );
    // The test caller matches neither rule.
    let shown = app.owner().get(PATH).await;
    assert_eq!((&shown.body, shown.etag()), (&set.body, set.etag()));
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let before = app.tenant("demo").await;
    let networks: Vec<String> = (0..101).map(|n| format!("10.0.{n}.0/24")).collect();

    let reply = patch(
        &app,
        json!({
            "mfaMode": "always", "sessionIdleMinutes": 4, "sessionAbsoluteMinutes": 43_201,
            "allowedCountries": ["DK", "Denmark", "dk"],
            "ipAllowlist": ["203.0.113.7/24", "10.0.0.0/8", "10.0.0.0/8", "localhost"],
        }),
    )
    .await;
    let too_many = patch(&app, json!({ "ipAllowlist": networks })).await;

    assert_eq!(reply.summary(), "422 validation_failed");
    assert_eq!(
        reply.errors(),
        [
            ("/mfaMode", "invalid_mfa_mode"),
            ("/sessionIdleMinutes", "out_of_range"),
            ("/sessionAbsoluteMinutes", "out_of_range"),
            ("/allowedCountries/1", "invalid_country"),
            ("/allowedCountries/2", "duplicate"),
            ("/ipAllowlist/0", "not_a_network"),
            ("/ipAllowlist/2", "duplicate"),
            ("/ipAllowlist/3", "invalid_network"),
        ]
    );
    assert_eq!(too_many.errors(), [("/ipAllowlist", "too_many")]);
    assert_eq!(app.tenant("demo").await, before);
}

#[tokio::test]
async fn wrong_number_and_list_types_are_rejected() {
    let app = TestApp::with_demo().await;

    for body in [
        json!({ "sessionIdleMinutes": "30" }),
        json!({ "sessionIdleMinutes": 30.5 }),
        json!({ "sessionIdleMinutes": 1e30 }),
        json!({ "ipAllowlist": null }),
        json!({ "mfaMode": null }),
        json!({ "enforcement": {} }),
    ] {
        let reply = patch(&app, body.clone()).await;
        assert_eq!(reply.summary(), "400 invalid_request", "{body}");
    }
}

#[tokio::test]
async fn the_idle_limit_cannot_exceed_the_absolute_limit() {
    let app = TestApp::with_demo().await;

    let both = patch(
        &app,
        json!({ "sessionIdleMinutes": 61, "sessionAbsoluteMinutes": 60, "mfaMode": "x" }),
    )
    .await;
    patch(
        &app,
        json!({ "sessionIdleMinutes": 30, "sessionAbsoluteMinutes": 60 }),
    )
    .await;
    let idle = patch(&app, json!({ "sessionIdleMinutes": 61 })).await;
    let absolute = json!({ "sessionAbsoluteMinutes": 29, "mfaMode": "x" });
    let absolute = patch(&app, absolute).await;
    let unlimited = patch(&app, json!({ "sessionAbsoluteMinutes": null })).await;
    let longer = patch(&app, json!({ "sessionIdleMinutes": 61 })).await;

    assert_eq!(
        both.errors(),
        [
            ("/mfaMode", "invalid_mfa_mode"),
            ("/sessionIdleMinutes", "idle_too_long")
        ]
    );
    assert_eq!(idle.errors(), [("/sessionIdleMinutes", "idle_too_long")]);
    assert_eq!(
        absolute.errors(),
        [
            ("/mfaMode", "invalid_mfa_mode"),
            ("/sessionAbsoluteMinutes", "idle_too_long")
        ]
    );
    assert_eq!(
        (unlimited.status.as_u16(), longer.status.as_u16()),
        (200, 200)
    );
    assert_eq!(longer.body["sessionIdleMinutes"], 61);
}

#[tokio::test]
async fn concurrent_policy_patches_keep_omitted_rules() {
    let app = TestApp::with_demo().await;
    let bodies = [
        json!({ "mfaMode": "required" }),
        json!({ "sessionIdleMinutes": 15 }),
        json!({ "sessionAbsoluteMinutes": 600 }),
        json!({ "allowedCountries": ["DK"] }),
        json!({ "ipAllowlist": ["10.0.0.0/8"] }),
    ];

    join_all(bodies.iter().map(|body| patch(&app, body.clone()))).await;

    let shown = app.owner().get(PATH).await.body;
    for body in bodies {
        for (name, value) in body.as_object().unwrap() {
            assert_eq!(shown[name], *value);
        }
    }
    let actions = app.actions().await;
    let changes = actions
        .iter()
        .filter(|action| *action == "tenant.securityPolicy");
    assert_eq!(changes.count(), 5);
}

#[tokio::test]
async fn the_security_policy_is_embedded_in_the_tenant_except_for_members() {
    let app = TestApp::with_demo().await;
    app.with_partner("support").await;

    for (caller, sees) in [
        (Caller::Owner, true),
        (Caller::Partner, true),
        (Caller::Operator, true),
        (Caller::Member, false),
    ] {
        let tenant = app.client(caller).get("/tenants/demo").await;
        let is_shown = tenant.body["securityPolicy"].is_object();
        assert_eq!(is_shown, sees, "{caller:?}");
    }
}
