//! People known by a claim, and rights that are changed elsewhere.

use dezky_shared::user::Role;
use dezky_sim::issuer::TokenSpec;

use super::*;

#[tokio::test]
async fn a_person_known_by_a_claim_has_rights_and_no_accounts_until_adopted() {
    let app = TestApp::with_demo().await;
    let known = app.user(Caller::Member).await;
    let of_user = |action: &str| format!("{USERS}/{}{action}", known.id);

    for action in [
        "/suspend",
        "/resume",
        "/force-logout",
        "/reset-password",
        "/restore",
    ] {
        let reply = app.owner().post_empty(of_user(action)).await;
        assert_eq!(reply.summary(), "409 not_managed", "{action}");
    }
    let renamed = app.owner().patch(of_user(""), json!({ "name": "B" })).await;
    assert_eq!(renamed.summary(), "409 not_managed");
    let body = json!({ "email": known.email, "name": "Mem", "role": "admin", "mailbox": false });
    let adopted = create(&app, body).await;
    assert_eq!(adopted.summary(), "202");
    let id: MemberId = app::id_of(&adopted.body["id"]);
    let member = link(
        &app,
        id,
        &known.authentik_subject_id,
        AccountOrigin::Adopted,
    )
    .await;

    let shown = app.owner().get(of_user("")).await;
    assert_eq!(shown.body["id"], json!(member.id));
    assert_eq!(shown.body["managed"], true);
    assert_eq!(shown.body["role"], "member", "adopting changes no rights");
    for private in ["lastSeenAt", "mfa"] {
        assert_eq!(
            shown.body[private],
            Value::Null,
            "{private} tells about the person elsewhere"
        );
    }
    let list = app.owner().get(USERS).await;
    assert_eq!(
        list.texts("/email"),
        ["member@demo.test", "owner@demo.test"]
    );
}

#[tokio::test]
async fn adopting_an_owner_as_a_member_takes_no_ownership() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await;
    let body = json!({ "email": owner.email, "name": "O", "role": "member", "mailbox": false });
    let reply = app.operator().post(USERS, body).await;
    let id: MemberId = app::id_of(&reply.body["id"]);
    // Suspended by an admin before the account was found.
    let pending = member(&app, id).await;
    app.operator().post_empty(path(&pending, "/suspend")).await;

    let linked = link(
        &app,
        id,
        &owner.authentik_subject_id,
        AccountOrigin::Adopted,
    )
    .await;

    assert_eq!(linked.role, Role::Owner);
    let tenant = app.tenant("demo").await.id;
    assert_eq!(
        app.user(Caller::Owner).await.role_in(tenant),
        Some(Role::Owner)
    );
}

#[tokio::test]
async fn operators_change_the_role_of_a_member_and_take_it_away_at_the_tenant_alone() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let user = format!("/users/{}", ada.user_id.unwrap());
    let set = async |role: Value| {
        app.operator()
            .patch(&user, json!({ "tenantRoles": { "demo": role } }))
            .await
    };

    let promoted = set(json!("admin")).await;
    let revoked = set(Value::Null).await;
    let deleted = app.operator().delete(&user).await;
    act(&app, &ada, "/suspend").await;
    let granted = set(json!("owner")).await;
    app.owner().delete(path(&ada, "")).await;
    let deleted_later = app.operator().delete(&user).await;

    assert_eq!(promoted.summary(), "200");
    assert_eq!(member(&app, ada.id).await.role, Role::Admin);
    // A restore would bring back a member without rights.
    for rejected in [revoked, deleted, granted, deleted_later] {
        assert_eq!(rejected.summary(), "409 managed_member");
    }
}

#[tokio::test]
async fn a_token_with_the_group_does_not_bring_rights_back() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    act(&app, &ada, "/suspend").await;
    let token = TokenSpec {
        groups: Some(vec!["demo".to_owned()]),
        ..Caller::Stranger.token()
    };

    let me = app.client(&token).get("/users/me").await;

    assert_eq!(me.summary(), "200");
    assert_eq!(me.body["tenants"], json!([]));
}
