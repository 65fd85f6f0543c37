//! What is a name, and what is not.

use dezky_sim::callers::Caller;
use serde_json::json;

use super::{add, edit, show};
use crate::app::TestApp;

#[tokio::test]
async fn a_name_that_no_tenant_can_have_is_refused_with_the_reason() {
    let app = TestApp::with_demo().await;
    let hostile = "a".repeat(300);
    for (name, code) in [
        ("", "domain_empty_label"),
        ("acme..dk", "domain_empty_label"),
        (hostile.as_str(), "domain_too_long"),
        ("*.acme.dk", "domain_wildcard"),
        ("192.0.2.1", "domain_is_address"),
        ("[2001:db8::1]", "domain_is_address"),
        ("💩.dk", "domain_invalid_characters"),
        ("acme.dk/../..", "domain_invalid_characters"),
        ("$where.dk", "domain_invalid_characters"),
        ("xn--a.dk", "domain_invalid_a_label"),
        ("раypal.com", "domain_mixed_scripts"),
        ("-acme.dk", "domain_hyphens"),
        ("dk", "domain_public_suffix"),
        ("co.uk", "domain_public_suffix"),
        ("github.io", "domain_public_suffix"),
        ("acme.notatld", "domain_unknown_suffix"),
        ("dezky.com", "domain_is_ours"),
        ("mail.Dezky.com.", "domain_is_ours"),
        ("1.0.10.in-addr.arpa", "domain_reserved"),
    ] {
        for by in [Caller::Owner, Caller::Operator] {
            let reply = add(&app, "demo", by, json!({ "name": name })).await;

            assert_eq!(reply.summary(), "422 validation_failed", "{name:?}");
            let error = &reply.body["errors"][0];
            assert_eq!(error["pointer"], "/name");
            assert_eq!(error["code"], code, "{name:?}");
            assert!(error["message"].as_str().unwrap().ends_with('.'));
        }
    }
    assert_eq!(app.count("domains").await, 1);
}

#[tokio::test]
async fn special_use_names_are_refused_unless_that_is_configured() {
    let app = TestApp::start_with(crate::app::shared_issuer(), |config| {
        config.domain_names.allow_special_use = false;
    })
    .await;
    app.sign_in(Caller::Operator).await;
    let create = |domains: serde_json::Value| {
        app.post("/tenants")
            .by(Caller::Operator)
            .json(&json!({ "slug": "demo", "name": "Demo", "domains": domains }))
            .send()
    };

    let refused = create(json!(["demo.dk", "demo.test"])).await;
    let created = create(json!(["demo.dk"])).await;
    let edited = app
        .patch("/tenants/demo")
        .by(Caller::Operator)
        .json(&json!({ "domains": ["demo.test"] }))
        .send()
        .await;
    let added = add(
        &app,
        "demo",
        Caller::Operator,
        json!({ "name": "demo.test" }),
    )
    .await;

    assert_eq!(created.status, 202);
    for (reply, pointer) in [
        (refused, "/domains/1"),
        (edited, "/domains/0"),
        (added, "/name"),
    ] {
        let error = &reply.body["errors"][0];
        assert_eq!(error["pointer"], pointer);
        assert_eq!(error["code"], "domain_special_use");
    }
}

#[tokio::test]
async fn a_name_has_one_form_however_it_is_spelled_and_is_shown_as_people_read_it() {
    let app = TestApp::with_demo().await;

    let added = add(
        &app,
        "demo",
        Caller::Owner,
        json!({ "name": "BÜCHER.test." }),
    )
    .await;
    let again = add(
        &app,
        "demo",
        Caller::Owner,
        json!({ "name": "xn--bcher-kva.test" }),
    )
    .await;

    assert_eq!(added.status, 202);
    assert_eq!(added.body["name"], "xn--bcher-kva.test");
    assert_eq!(added.body["unicodeName"], "bücher.test");
    assert_eq!(again.summary(), "409 domain_exists");
    for spelled in [
        "xn--bcher-kva.test",
        "b%C3%BCcher.test",
        "B%C3%9CCHER.TEST.",
    ] {
        let shown = show(&app, "demo", spelled).await;
        assert_eq!(shown.body["id"], added.body["id"], "{spelled}");
    }
    for nothing in ["other.test", "%00", "*.test", "..%2F..", "xn--a.test"] {
        let shown = show(&app, "demo", nothing).await;
        assert_eq!(shown.summary(), "404 not_found", "{nothing}");
    }
}

#[tokio::test]
async fn every_other_field_is_checked_too_and_all_that_is_wrong_is_told() {
    let app = TestApp::with_demo().await;
    let wrong = json!({ "policy": "p=reject", "rua": "a@b.test,mailto:c@d.test" });

    let added = add(
        &app,
        "demo",
        Caller::Owner,
        json!({ "name": "10.0.0.1", "dmarc": wrong }),
    )
    .await;
    let edited = edit(&app, "demo.test", json!({ "dmarc": wrong })).await;

    let codes = |reply: &crate::app::Reply| {
        let errors = reply.body["errors"].as_array().unwrap().iter();
        errors
            .map(|error| error["code"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        codes(&added),
        ["domain_is_address", "invalid_dmarc_policy", "invalid_email"]
    );
    assert_eq!(codes(&edited), ["invalid_dmarc_policy", "invalid_email"]);
    for body in [
        json!({ "name": 7 }),
        json!({ "name": "a.test", "token": "mine" }),
        json!({ "name": "a.test", "ownedBy": "operator" }),
        json!({ "name": "a.test", "primary": null }),
        json!({ "name": "a.test", "dmarc": [] }),
        json!({ "name": "a.test", "dmarc": { "policy": { "$ne": 1 } } }),
        json!({}),
    ] {
        let reply = add(&app, "demo", Caller::Owner, body.clone()).await;
        assert_eq!(reply.summary(), "400 invalid_request", "{body}");
    }
}
