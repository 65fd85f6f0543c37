//! Self-service: a person creates their first tenant.

use bson::doc;
use dezky_shared::user::Role;
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::{TestApp, shared_issuer};

async fn app() -> TestApp {
    TestApp::start_with(shared_issuer(), |config| config.self_service_tenants = true).await
}

fn acme() -> Value {
    json!({ "slug": "acme", "name": "Acme" })
}

#[tokio::test]
async fn a_person_without_a_tenant_creates_one_and_owns_it() {
    let app = app().await;
    let create = || {
        let call = app.stranger().post("/tenants", acme());
        call.idempotency_key("first")
    };

    let created = create().await;
    let repeated = create().await;

    assert_eq!(created.status, 202);
    assert_eq!(repeated.body, created.body);
    assert_eq!(created.body["plan"], "starter");
    assert_eq!(created.body["owner"]["email"], Caller::Stranger.email());
    let tenant = app.tenant("acme").await;
    let user = app.user(Caller::Stranger).await;
    assert_eq!(user.role_in(tenant.id), Some(Role::Owner));
    assert_eq!(app.stranger().get("/tenants/acme").await.status, 200);
    let mut actions = app.actions().await;
    actions.sort();
    assert_eq!(actions, ["tenant.create", "user.create", "user.update"]);
}

#[tokio::test]
async fn a_person_gets_one_tenant() {
    let app = app().await;
    app.sign_in(Caller::Stranger).await;
    let create = |slug: &str| {
        let body = json!({ "slug": slug, "name": "Acme" });
        app.stranger().post("/tenants", body).send()
    };

    let (first, second) = tokio::join!(create("acme"), create("bcme"));

    let mut replies = [first.summary(), second.summary()];
    replies.sort();
    assert!(replies[0].starts_with("202"), "{replies:?}");
    assert_eq!(replies[1], "409 has_tenant");
    assert_eq!(app.count("tenants").await, 1);
}

#[tokio::test]
async fn fields_that_operators_decide_are_refused() {
    let app = app().await;
    let mut body = acme();
    body["plan"] = "business".into();
    body["domains"] = json!(["acme.test"]);

    let reply = app.stranger().post("/tenants", body).await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let pointers: Vec<&Value> = reply.body["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| &error["pointer"])
        .collect();
    assert_eq!(pointers, ["/plan", "/domains"]);
}

#[tokio::test]
async fn it_is_off_by_default_and_not_for_partner_staff() {
    let off = TestApp::start().await;
    let on = app().await;
    on.sign_in(Caller::Partner).await;
    let partner = on.insert_partner("nordic", "active").await;
    let staff = doc! { "authentikSubjectId": Caller::Partner.subject() };
    let fields = doc! { "partnerId": partner, "partnerRole": "owner" };
    on.set("users", staff, fields).await;

    let by_stranger = off.stranger().post("/tenants", acme()).await;
    let by_staff = on.partner().post("/tenants", acme()).await;
    let by_half_an_operator = on
        .client(Caller::OperatorWithoutFlag)
        .post("/tenants", acme())
        .await;

    for reply in [by_stranger, by_staff, by_half_an_operator] {
        assert_eq!(reply.summary(), "403 forbidden");
    }
}
