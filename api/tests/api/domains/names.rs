//! Domain name validation and canonical form.

use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use super::{add, edit, show};
use crate::app::{TestApp, shared_issuer};

#[tokio::test]
async fn an_unusable_domain_name_is_rejected_with_the_reason() {
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
            let reply = add(&app, "demo", by, name).await;

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
async fn special_use_names_are_rejected_unless_configured() {
    let app = TestApp::start_with(shared_issuer(), |config| {
        config.domain_names.allow_special_use = false;
    })
    .await;
    app.sign_in(Caller::Operator).await;
    let create = |domains: Value| {
        let body = json!({ "slug": "demo", "name": "Demo", "domains": domains });
        app.operator().post("/tenants", body)
    };

    let rejected = create(json!(["demo.dk", "demo.test"])).await;
    let created = create(json!(["demo.dk"])).await;
    let edited = app
        .operator()
        .patch("/tenants/demo", json!({ "domains": ["demo.test"] }))
        .await;
    let added = add(&app, "demo", Caller::Operator, "demo.test").await;

    assert_eq!(created.status, 202);
    for (reply, pointer) in [
        (rejected, "/domains/1"),
        (edited, "/domains/0"),
        (added, "/name"),
    ] {
        let error = &reply.body["errors"][0];
        assert_eq!(error["pointer"], pointer);
        assert_eq!(error["code"], "domain_special_use");
    }
}

#[tokio::test]
async fn a_domain_name_is_stored_in_canonical_form_and_displayed_as_unicode() {
    let app = TestApp::with_demo().await;

    let added = add(&app, "demo", Caller::Owner, "BÜCHER.test.").await;
    let again = add(&app, "demo", Caller::Owner, "xn--bcher-kva.test").await;

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
async fn all_other_fields_are_validated_and_reported_together() {
    let app = TestApp::with_demo().await;
    let invalid = json!({ "policy": "p=reject", "rua": "a@b.test,mailto:c@d.test" });

    let added = app
        .owner()
        .post(
            "/tenants/demo/domains",
            json!({ "name": "10.0.0.1", "dmarc": invalid }),
        )
        .await;
    let edited = edit(&app, "demo.test", json!({ "dmarc": invalid })).await;

    let codes = |reply: &crate::client::Reply| {
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
        let reply = app.owner().post("/tenants/demo/domains", &body).await;
        assert_eq!(reply.summary(), "400 invalid_request", "{body}");
    }
}
