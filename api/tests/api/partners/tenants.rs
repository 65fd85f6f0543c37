//! Tenants of the caller's own partner.

use dezky_shared::user::PartnerRole;
use serde_json::{Value, json};

use super::{edit, partner};
use crate::{app::TestApp, client::Reply, personas::Persona};

async fn create(app: &TestApp, persona: Persona, body: Value) -> Reply {
    app.client(persona).post("/partner/tenants", body).await
}

#[tokio::test]
async fn staff_see_only_their_partners_tenants() {
    let app = TestApp::with_personas().await;

    for (persona, own, other) in [
        (Persona::PartnerReadOnly, "demo", "other"),
        (Persona::PartnerSupport, "demo", "other"),
        (Persona::OtherPartner, "other", "demo"),
    ] {
        let list = app.client(persona).get("/partner/tenants").await;
        let shown = app
            .client(persona)
            .get(format!("/partner/tenants/{own}"))
            .await;
        let hidden = app
            .client(persona)
            .get(format!("/partner/tenants/{other}"))
            .await;

        let slugs: Vec<&Value> = list.items().iter().map(|item| &item["slug"]).collect();
        assert_eq!(slugs, [own], "{persona:?}");
        assert_eq!(shown.body["slug"], own);
        assert_eq!(hidden.summary(), "404 not_found");
    }
    let none = app
        .client(Persona::PartnerOwner)
        .get("/partner/tenants?status=suspended")
        .await;
    assert_eq!(none.body["items"], json!([]));
}

#[tokio::test]
async fn a_staff_members_own_tenant_is_not_the_partners() {
    let app = TestApp::with_personas().await;
    let user = app.user(Persona::PartnerOwner).await;
    assert_eq!(user.partner_role, Some(PartnerRole::Owner));
    app.set_tenant_roles(user.id, json!({ "other": "owner" }))
        .await;

    let as_owner = app
        .client(Persona::PartnerOwner)
        .get("/tenants/other")
        .await;
    let as_staff = app
        .client(Persona::PartnerOwner)
        .get("/partner/tenants/other")
        .await;

    assert_eq!(as_owner.summary(), "200");
    assert_eq!(as_staff.summary(), "404 not_found");
}

#[tokio::test]
async fn a_manager_creates_a_tenant_for_the_partner() {
    let app = TestApp::with_personas().await;
    let nordic = partner(&app, "nordic").await.id;

    let reply = create(
        &app,
        Persona::PartnerManager,
        json!({ "slug": "acme", "name": "Acme", "plan": "enterprise", "owner": { "email": "ada@acme.test", "name": "Ada" } }),
    )
    .await;
    let shown = app
        .client(Persona::PartnerReadOnly)
        .get("/partner/tenants/acme")
        .await;
    let elsewhere = app
        .client(Persona::OtherPartner)
        .get("/partner/tenants/acme")
        .await;

    assert_eq!(reply.summary(), "202", "{reply:?}");
    assert_eq!(reply.body["partnerId"], nordic.to_string());
    assert_eq!(
        (&reply.body["plan"], &reply.body["domains"]),
        (&json!("enterprise"), &json!([]))
    );
    let job = app.jobs().await.into_iter().last().unwrap();
    assert_eq!(job.kind, "provision_tenant");
    assert_eq!(
        reply.header("location").unwrap(),
        format!("/jobs/{}", job.id)
    );
    assert_eq!(shown.summary(), "200");
    assert_eq!(elsewhere.summary(), "404 not_found");
    let events = app.collection("audit_events");
    let event = events
        .find_one(bson::doc! { "action": "tenant.create", "target.name": "acme" })
        .await;
    let event = event.unwrap().unwrap();
    assert_eq!(
        event
            .get_document("actor")
            .unwrap()
            .get_str("kind")
            .unwrap(),
        "partner"
    );
}

#[tokio::test]
async fn a_new_tenant_defaults_to_the_partners_default_plan() {
    let app = TestApp::with_personas().await;
    let plan = async |slug: &str, plan: Value| {
        let body = json!({ "slug": slug, "name": "Acme", "plan": plan });
        create(&app, Persona::PartnerOwner, body).await.body["plan"].clone()
    };

    let without = plan("one", Value::Null).await;
    edit(&app, "nordic", json!({ "defaultPlan": "business" })).await;
    let with = plan("two", Value::Null).await;
    let given = plan("three", json!("starter")).await;

    assert_eq!([without, with, given], ["starter", "business", "starter"]);
}

#[tokio::test]
async fn staff_cannot_confirm_domains_or_choose_the_partner() {
    let app = TestApp::with_personas().await;
    let before = app.count("tenants").await;

    for field in ["domains", "partnerId"] {
        let mut body = json!({ "slug": "acme", "name": "Acme" });
        body[field] = json!(["acme.test"]);
        let reply = create(&app, Persona::PartnerOwner, body).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{field}");
        assert_eq!(
            reply.errors(),
            [(format!("/{field}").as_str(), "unknown_field")]
        );
    }
    assert_eq!(app.count("tenants").await, before);
}

#[tokio::test]
async fn all_invalid_fields_of_a_new_tenant_are_reported_together() {
    let app = TestApp::with_personas().await;
    let body = json!({
        "slug": "www", "name": "", "plan": "gold", "industry": "", "brandColor": "red", "owner": { "email": "ada", "name": "" },
    });

    let reply = create(&app, Persona::PartnerOwner, body).await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let expected = [
        ("/slug", "reserved_slug"),
        ("/name", "too_short"),
        ("/plan", "invalid_plan"),
        ("/industry", "too_short"),
        ("/brandColor", "invalid_color"),
        ("/owner/email", "invalid_email"),
        ("/owner/name", "too_short"),
    ];
    assert_eq!(reply.errors(), expected);
}

#[tokio::test]
async fn managers_suspend_and_resume_a_tenant() {
    let app = TestApp::with_personas().await;
    let act = async |persona, action: &str| {
        let path = format!("/partner/tenants/demo/{action}");
        app.client(persona).post_empty(&path).await.summary()
    };

    let rejected = [
        act(Persona::PartnerSupport, "suspend").await,
        act(Persona::PartnerReadOnly, "resume").await,
        act(Persona::OtherPartner, "suspend").await,
    ];
    let suspended = act(Persona::PartnerManager, "suspend").await;
    let again = act(Persona::PartnerManager, "suspend").await;
    let resumed = act(Persona::PartnerOwner, "resume").await;

    assert_eq!(
        rejected,
        ["403 forbidden", "403 forbidden", "404 not_found"]
    );
    assert_eq!([suspended, again, resumed], ["202", "200", "202"]);
    let kinds = app.kinds().await;
    assert_eq!(
        kinds[kinds.len() - 2..],
        ["suspend_tenant", "resume_tenant"]
    );
}

#[tokio::test]
async fn staff_can_edit_a_tenants_profile_but_not_its_plan() {
    let app = TestApp::with_personas().await;
    let patch = async |persona, body: Value| {
        app.client(persona)
            .patch("/partner/tenants/demo", body)
            .await
    };

    let industry = patch(Persona::PartnerManager, json!({ "industry": "anvils" })).await;
    let name = patch(Persona::PartnerOwner, json!({ "name": "New" })).await;
    let for_operators = [
        patch(Persona::PartnerOwner, json!({ "plan": "starter" })).await,
        patch(Persona::PartnerOwner, json!({ "domains": [] })).await,
        patch(Persona::PartnerOwner, json!({ "partnerId": null })).await,
        patch(Persona::PartnerSupport, json!({ "industry": "x" })).await,
    ];

    assert_eq!(
        (industry.summary(), name.summary()),
        ("200".into(), "202".into())
    );
    for reply in for_operators {
        assert_eq!(reply.summary(), "403 forbidden");
    }
    let tenant = app.tenant("demo").await;
    assert_eq!(
        (tenant.name.as_str(), tenant.industry.as_deref()),
        ("New", Some("anvils"))
    );
}
