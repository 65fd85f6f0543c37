//! Sign-in, memberships from token claims, and roles set by operators.

mod managing;
mod profile;

use bson::doc;
use dezky_shared::{
    id::UserId,
    platform::clock,
    user::{Role, User},
};
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use http::Method;
use serde_json::{Value, json};

use crate::app::{TestApp, id_of};
use crate::client::{Reply, send_all, sorted_summaries};

fn with_groups(groups: Option<&[&str]>, issued_at: i64) -> TokenSpec {
    TokenSpec {
        groups: groups.map(|groups| groups.iter().map(|group| (*group).to_owned()).collect()),
        issued_at: Some(issued_at),
        ..Caller::Stranger.token()
    }
}

fn now() -> i64 {
    clock::now().timestamp_millis() / 1000
}

async fn me(app: &TestApp, spec: &TokenSpec) -> Value {
    let reply = app.client(spec).get("/users/me").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    reply.body
}

async fn set(app: &TestApp, id: UserId, body: Value) -> Reply {
    app.operator().patch(format!("/users/{id}"), &body).await
}

#[tokio::test]
async fn a_user_is_created_at_first_sign_in() {
    let app = TestApp::with_demo().await;

    let reply = app.member().get("/users/me").await;

    insta::assert_json_snapshot!(reply.body, {
        ".id" => "[id]", ".createdAt" => "[time]", ".updatedAt" => "[time]", ".tenantIds[]" => "[id]",
        ".tenants[].id" => "[id]", ".tenantRoles" => insta::dynamic_redaction(|roles, _| {
            insta::internals::Content::from(format!("{roles:?}").contains("member"))
        }),
    }, @r#"
    {
      "authentikSubjectId": "00000000-0000-4000-8000-000000000002",
      "createdAt": "[time]",
      "email": "member@demo.test",
      "id": "[id]",
      "isTenantAdmin": false,
      "name": "Demo member",
      "platformAdmin": false,
      "revision": 1,
      "subscriptions": [],
      "tenantCount": 1,
      "tenantIds": [
        "[id]"
      ],
      "tenantRoles": true,
      "tenants": [
        {
          "id": "[id]",
          "name": "Demo",
          "role": "member",
          "slug": "demo",
          "status": "pending"
        }
      ],
      "updatedAt": "[time]"
    }
    "#);
}

#[tokio::test]
async fn concurrent_first_sign_ins_create_one_user() {
    let app = TestApp::start().await;

    let replies = send_all((0..8).map(|_| app.stranger().get("/users/me"))).await;

    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{replies:?}"
    );
    assert!(
        replies
            .iter()
            .all(|reply| reply.body["id"] == replies[0].body["id"])
    );
    assert_eq!(
        (app.count("users").await, app.actions().await.len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_repeated_sign_in_changes_nothing() {
    let app = TestApp::with_demo().await;
    let events = app.count("audit_events").await;
    let before = app.user(Caller::Member).await;
    // Within the leeway.
    let newer = TokenSpec {
        issued_at: Some(now() + 20),
        ..Caller::Member.token()
    };

    let reply = app.client(&newer).get("/users/me").await;
    let cached = app
        .member()
        .get("/users/me")
        .if_none_match(reply.etag())
        .await;

    let after = app.user(Caller::Member).await;
    assert!(after.claims_at > before.claims_at);
    assert_eq!(
        User {
            claims_at: before.claims_at,
            ..after
        },
        before
    );
    assert_eq!(app.count("audit_events").await, events);
    assert_eq!(cached.status, 304);
}

#[tokio::test]
async fn token_groups_become_memberships_except_admin_groups() {
    let app = TestApp::with_demo().await;
    let groups = ["demo", "demo", "authentik Admins", "unknown-group", "DEMO"];

    let user = me(&app, &with_groups(Some(&groups), now())).await;

    assert_eq!(user["platformAdmin"], true);
    assert_eq!(user["tenantIds"].as_array().unwrap().len(), 1);
    assert_eq!(user["tenants"][0]["slug"], "demo");
}

#[tokio::test]
async fn memberships_follow_claims_and_older_tokens_restore_nothing() {
    let app = TestApp::with_demo().await;
    let old = with_groups(Some(&["demo", "dezky-platform-admins"]), now() - 600);
    let joined = me(&app, &old).await;
    let silent = me(&app, &with_groups(None, now() - 500)).await;

    let left = me(&app, &with_groups(Some(&[]), now() - 60)).await;
    let replayed = me(&app, &old).await;

    assert_eq!(
        (&joined["platformAdmin"], &joined["tenants"][0]["role"]),
        (&json!(true), &json!("member"))
    );
    assert_eq!(silent["tenantIds"], joined["tenantIds"]);
    assert_eq!(
        (&left["platformAdmin"], &left["tenantIds"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(replayed, left);
}

#[tokio::test]
async fn an_older_token_does_not_grant_rights_missing_from_a_newer_one() {
    let app = TestApp::with_demo().await;
    let old = with_groups(Some(&["demo", "dezky-platform-admins"]), now() - 600);

    let newer = me(&app, &with_groups(Some(&[]), now() - 60)).await;
    let older = me(&app, &old).await;

    assert_eq!(
        (&older["platformAdmin"], &older["tenantIds"]),
        (&json!(false), &json!([]))
    );
    assert_eq!(older, newer);
}

#[tokio::test]
async fn a_token_of_an_issuer_whose_clock_is_ahead_does_not_block_later_claims() {
    let app = TestApp::with_demo().await;

    let joined = me(&app, &with_groups(Some(&["demo"]), now() + 20)).await;
    let left = me(&app, &with_groups(Some(&[]), now() + 1)).await;

    assert_eq!(joined["tenants"][0]["slug"], "demo");
    assert_eq!(left["tenantIds"], json!([]));
}

#[tokio::test]
async fn roles_set_by_operators_take_precedence_over_claims() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Member).await.id;
    set(
        &app,
        id,
        json!({ "tenantRoles": { "demo": "admin" }, "platformAdmin": true }),
    )
    .await;

    let token = TokenSpec {
        groups: Some(vec![]),
        issued_at: Some(now() + 20),
        ..Caller::Member.token()
    };
    let user = me(&app, &token).await;

    assert_eq!(user["tenants"][0]["role"], "admin");
    assert_eq!(user["platformAdmin"], true);
}

#[tokio::test]
async fn a_revoked_role_is_not_restored_by_a_token() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Member).await.id;

    let reply = set(&app, id, json!({ "tenantRoles": { "demo": null } })).await;
    let user = app.sign_in(Caller::Member).await.body;

    assert_eq!(reply.body["tenantIds"], json!([]));
    assert_eq!(user["tenantIds"], json!([]));
}

#[tokio::test]
async fn tenant_roles_accept_ids_and_slugs_of_existing_tenants() {
    let app = TestApp::with_demo().await;
    let tenant = app.tenant("demo").await.id;
    let id = app.user(Caller::Stranger).await.id;

    let by_id = set(
        &app,
        id,
        json!({ "tenantRoles": { tenant.to_string(): "owner" } }),
    )
    .await;
    let twice = set(
        &app,
        id,
        json!({ "tenantRoles": { tenant.to_string(): "owner", "demo": "admin" } }),
    )
    .await;
    let unknown = set(
        &app,
        id,
        json!({ "tenantRoles": { "unknown/slug": "owner" } }),
    )
    .await;
    let missing_user = set(&app, UserId::new(), json!({ "platformAdmin": true })).await;

    assert_eq!(by_id.status, 200);
    assert_eq!(
        app.user(Caller::Stranger).await.role_in(tenant),
        Some(Role::Owner)
    );
    assert_eq!(twice.summary(), "422 validation_failed");
    assert_eq!(twice.body["errors"][0]["code"], "duplicate_field");
    assert_eq!(unknown.summary(), "422 validation_failed");
    assert_eq!(
        unknown.body["errors"][0]["pointer"],
        "/tenantRoles/unknown~1slug"
    );
    assert_eq!(missing_user.summary(), "404 not_found");
}

#[tokio::test]
async fn a_repeated_tenant_parameter_is_rejected() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let body = r#"{ "tenantRoles": { "demo": "owner", "demo": null } }"#;

    let reply = app
        .operator()
        .request(Method::PATCH, format!("/users/{id}"))
        .body("application/json", body)
        .await;

    assert_eq!(reply.summary(), "400 invalid_request");
    let error = &reply.body["errors"][0];
    assert_eq!(
        (&error["code"], &error["pointer"]),
        (&json!("duplicate_field"), &json!("/tenantRoles/demo"))
    );
}

#[tokio::test]
async fn a_tenants_trail_hides_roles_in_other_tenants() {
    let app = TestApp::with_demo().await;
    app.create("acme").await;
    let (demo, acme) = (app.tenant("demo").await.id, app.tenant("acme").await.id);
    let id = app.user(Caller::Member).await.id;

    let reply = set(&app, id, json!({ "tenantRoles": { "acme": "admin" } })).await;

    assert_eq!(reply.body["tenantIds"].as_array().unwrap().len(), 2);
    let update = doc! { "action": "user.update", "tenantId": acme };
    let event = app.document("audit_events", update).await;
    let (before, after) = (event.get_document("before"), event.get_document("after"));
    assert_eq!(
        (before.unwrap(), after.unwrap()),
        (
            &doc! { "tenantRoles": {} },
            &doc! { "tenantRoles": { acme.to_string(): "admin" } }
        )
    );
    assert!(!event.to_string().contains(&demo.to_string()));
}

#[tokio::test]
async fn a_tenant_keeps_its_last_owner() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await.id;
    let other = app.user(Caller::Stranger).await.id;

    let rejected = set(&app, owner, json!({ "tenantRoles": { "demo": "admin" } })).await;
    set(&app, other, json!({ "tenantRoles": { "demo": "owner" } })).await;
    let both = tokio::join!(
        set(&app, owner, json!({ "tenantRoles": { "demo": null } })),
        set(&app, other, json!({ "tenantRoles": { "demo": null } })),
    );

    assert_eq!(rejected.summary(), "409 last_owner");
    let found = sorted_summaries([&both.0, &both.1]);
    assert_eq!(found, ["200", "409 last_owner"]);
}

#[tokio::test]
async fn operators_cannot_remove_their_own_admin_flag() {
    let app = TestApp::with_demo().await;
    let own = app.user(Caller::Operator).await.id;

    let reply = set(&app, own, json!({ "platformAdmin": false })).await;

    assert_eq!(reply.summary(), "409 own_admin_flag");
    assert!(app.user(Caller::Operator).await.platform_admin);
}

#[tokio::test]
async fn a_user_edit_is_audited_once_and_only_on_change() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let events = app.count("audit_events").await;

    let first = set(&app, id, json!({ "tenantRoles": { "demo": "admin" } })).await;
    let again = set(&app, id, json!({ "tenantRoles": { "demo": "admin" } })).await;
    let stale = app
        .operator()
        .patch(format!("/users/{id}"), json!({ "platformAdmin": true }))
        .if_match("\"1.1\"")
        .await;

    assert_eq!((first.etag(), again.etag()), ("\"2.2\"", "\"2.2\""));
    assert_eq!(id_of::<UserId>(&first.body["id"]), id);
    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(app.count("audit_events").await - events, 1);
}
