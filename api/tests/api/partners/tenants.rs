//! The tenants that a partner looks after, for its staff.

use dezky_shared::user::PartnerRole;
use http::Method;
use serde_json::{Value, json};

use super::{ask, edit, errors, partner};
use crate::{
    app::{Reply, TestApp},
    everyone::Who,
};

async fn create(app: &TestApp, who: Who, body: Value) -> Reply {
    ask(app, who, Method::POST, "/partner/tenants", Some(body)).await
}

#[tokio::test]
async fn staff_see_their_partners_tenants_and_nobody_elses() {
    let app = TestApp::with_everyone().await;

    for (who, own, other) in [
        (Who::PartnerReadOnly, "demo", "other"),
        (Who::PartnerSupport, "demo", "other"),
        (Who::OtherPartner, "other", "demo"),
    ] {
        let list = ask(&app, who, Method::GET, "/partner/tenants", None).await;
        let shown = ask(
            &app,
            who,
            Method::GET,
            &format!("/partner/tenants/{own}"),
            None,
        )
        .await;
        let hidden = ask(
            &app,
            who,
            Method::GET,
            &format!("/partner/tenants/{other}"),
            None,
        )
        .await;

        let slugs: Vec<&Value> = list.body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| &item["slug"])
            .collect();
        assert_eq!(slugs, [own], "{who:?}");
        assert_eq!(shown.body["slug"], own);
        assert_eq!(hidden.summary(), "404 not_found");
    }
    let none = ask(
        &app,
        Who::PartnerOwner,
        Method::GET,
        "/partner/tenants?status=suspended",
        None,
    )
    .await;
    assert_eq!(none.body["items"], json!([]));
}

#[tokio::test]
async fn a_tenant_of_their_own_is_no_tenant_of_their_partners() {
    let app = TestApp::with_everyone().await;
    let staff = Who::PartnerOwner.token().unwrap().subject;
    let user = app
        .state
        .users
        .find_by_subject(&staff)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(user.partner_role, Some(PartnerRole::Owner));
    app.patch(&format!("/users/{}", user.id))
        .by(dezky_sim::callers::Caller::Operator)
        .json(&json!({ "tenantRoles": { "other": "owner" } }))
        .send()
        .await;

    let as_owner = ask(&app, Who::PartnerOwner, Method::GET, "/tenants/other", None).await;
    let as_staff = ask(
        &app,
        Who::PartnerOwner,
        Method::GET,
        "/partner/tenants/other",
        None,
    )
    .await;

    assert_eq!(as_owner.summary(), "200");
    assert_eq!(as_staff.summary(), "404 not_found");
}

#[tokio::test]
async fn a_manager_creates_a_tenant_for_their_partner() {
    let app = TestApp::with_everyone().await;
    let nordic = partner(&app, "nordic").await.id;

    let reply = create(
        &app,
        Who::PartnerManager,
        json!({ "slug": "acme", "name": "Acme", "plan": "enterprise", "owner": { "email": "ada@acme.test", "name": "Ada" } }),
    )
    .await;
    let shown = ask(
        &app,
        Who::PartnerReadOnly,
        Method::GET,
        "/partner/tenants/acme",
        None,
    )
    .await;
    let elsewhere = ask(
        &app,
        Who::OtherPartner,
        Method::GET,
        "/partner/tenants/acme",
        None,
    )
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
async fn a_new_tenant_has_the_partners_default_plan_where_none_is_given() {
    let app = TestApp::with_everyone().await;
    let plan = async |slug: &str, plan: Value| {
        let body = json!({ "slug": slug, "name": "Acme", "plan": plan });
        create(&app, Who::PartnerOwner, body).await.body["plan"].clone()
    };

    let without = plan("one", Value::Null).await;
    edit(&app, "nordic", json!({ "defaultPlan": "business" })).await;
    let with = plan("two", Value::Null).await;
    let given = plan("three", json!("starter")).await;

    assert_eq!([without, with, given], ["starter", "business", "starter"]);
}

#[tokio::test]
async fn staff_neither_own_domains_by_their_word_nor_choose_the_partner() {
    let app = TestApp::with_everyone().await;
    let before = app.count("tenants").await;

    for field in ["domains", "partnerId"] {
        let mut body = json!({ "slug": "acme", "name": "Acme" });
        body[field] = json!(["acme.test"]);
        let reply = create(&app, Who::PartnerOwner, body).await;

        assert_eq!(reply.summary(), "400 invalid_request", "{field}");
        assert_eq!(
            errors(&reply),
            [(format!("/{field}").as_str(), "unknown_field")]
        );
    }
    assert_eq!(app.count("tenants").await, before);
}

#[tokio::test]
async fn all_that_is_wrong_with_a_new_tenant_is_told_at_once() {
    let app = TestApp::with_everyone().await;
    let body = json!({
        "slug": "www", "name": "", "plan": "gold", "industry": "", "brandColor": "red", "owner": { "email": "ada", "name": "" },
    });

    let reply = create(&app, Who::PartnerOwner, body).await;

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
    assert_eq!(errors(&reply), expected);
}

#[tokio::test]
async fn a_tenant_is_suspended_and_resumed_by_those_who_manage_it() {
    let app = TestApp::with_everyone().await;
    let act = async |who, action: &str| {
        let path = format!("/partner/tenants/demo/{action}");
        ask(&app, who, Method::POST, &path, None).await.summary()
    };

    let refused = [
        act(Who::PartnerSupport, "suspend").await,
        act(Who::PartnerReadOnly, "resume").await,
        act(Who::OtherPartner, "suspend").await,
    ];
    let suspended = act(Who::PartnerManager, "suspend").await;
    let again = act(Who::PartnerManager, "suspend").await;
    let resumed = act(Who::PartnerOwner, "resume").await;

    assert_eq!(refused, ["403 forbidden", "403 forbidden", "404 not_found"]);
    assert_eq!([suspended, again, resumed], ["202", "200", "202"]);
    let kinds = app.kinds().await;
    assert_eq!(
        kinds[kinds.len() - 2..],
        ["suspend_tenant", "resume_tenant"]
    );
}

#[tokio::test]
async fn staff_edit_how_a_tenant_is_called_and_not_what_it_has_bought() {
    let app = TestApp::with_everyone().await;
    let patch = async |who, body: Value| {
        ask(
            &app,
            who,
            Method::PATCH,
            "/partner/tenants/demo",
            Some(body),
        )
        .await
    };

    let industry = patch(Who::PartnerManager, json!({ "industry": "anvils" })).await;
    let name = patch(Who::PartnerOwner, json!({ "name": "New" })).await;
    let for_operators = [
        patch(Who::PartnerOwner, json!({ "plan": "starter" })).await,
        patch(Who::PartnerOwner, json!({ "domains": [] })).await,
        patch(Who::PartnerOwner, json!({ "partnerId": null })).await,
        patch(Who::PartnerSupport, json!({ "industry": "x" })).await,
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
