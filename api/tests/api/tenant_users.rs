//! Users of a tenant: reading and managing them.

use bson::{DateTime, doc};
use dezky_shared::id::UserId;
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{
    app::TestApp,
    client::{Client, Reply},
    personas::Persona,
};

async fn set_role(client: &Client<'_>, id: UserId, role: &str) -> Reply {
    let path = format!("/tenants/demo/users/{id}");
    client.patch(path, json!({ "role": role })).await
}

async fn remove(client: &Client<'_>, id: UserId) -> Reply {
    client.delete(format!("/tenants/demo/users/{id}")).await
}

async fn id_of(app: &TestApp, persona: Persona) -> UserId {
    app.user(persona).await.id
}

/// The app with all personas and a single owner of `demo`.
async fn with_one_owner() -> TestApp {
    let app = TestApp::with_personas().await;
    let mut second = app.user(Caller::Owner).await;
    second.memberships.clear();
    app.put_user(&second).await;
    app
}

#[tokio::test]
async fn tenant_users_are_listed_with_role_status_and_mfa() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let new = json!({
        "authentikSubjectId": "00000000-0000-4000-a000-00000000000a", "email": "new@demo.test", "name": "New",
        "tenantRoles": { "demo": "admin", "other": "owner" },
    });
    app.operator().post("/users", &new).await;
    let users = app.collection("users");
    let looked_up = DateTime::from_millis(1_795_339_800_000);
    let look = doc! { "$set": { "mfa": { "devices": 2, "lookedUpAt": looked_up } } };
    let member = doc! { "authentikSubjectId": Caller::Member.subject() };
    users.update_one(member, look).await.unwrap();

    let list = app.owner().get("/tenants/demo/users").await;

    insta::assert_json_snapshot!(list.body, { ".items[].id" => "[id]", ".items[].userId" => "[id]", ".items[].lastSeenAt" => "[time]" }, @r#"
    {
      "items": [
        {
          "email": "member@demo.test",
          "id": "[id]",
          "lastSeenAt": "[time]",
          "managed": false,
          "mfa": {
            "devices": 2,
            "enrolled": "yes",
            "lookedUpAt": "2026-11-22T09:30:00.000Z"
          },
          "name": "Demo member",
          "revision": 1,
          "role": "member",
          "status": "active",
          "userId": "[id]"
        },
        {
          "email": "owner@demo.test",
          "id": "[id]",
          "lastSeenAt": "[time]",
          "managed": false,
          "name": "Demo owner",
          "revision": 2,
          "role": "owner",
          "status": "active",
          "userId": "[id]"
        },
        {
          "email": "new@demo.test",
          "id": "[id]",
          "managed": false,
          "name": "New",
          "revision": 1,
          "role": "admin",
          "status": "invited",
          "userId": "[id]"
        }
      ],
      "nextCursor": null
    }
    "#);
    for item in list.items() {
        let path = format!("/tenants/demo/users/{}", item["id"].as_str().unwrap());
        let shown = app.owner().get(&path).await;
        assert_eq!(&shown.body, item);
    }
}

#[tokio::test]
async fn admins_manage_members_and_admins_but_not_owners() {
    let app = TestApp::with_personas().await;
    let (admin, owner) = (
        app.client(Persona::Admin),
        id_of(&app, Persona::Owner).await,
    );
    let member = id_of(&app, Persona::Member).await;

    let promoted = set_role(&admin, member, "admin").await;
    let made_owner = set_role(&admin, member, "owner").await;
    let demoted_owner = set_role(&admin, owner, "member").await;
    let removed_owner = remove(&admin, owner).await;
    let by_partner = set_role(&app.client(Persona::PartnerOwner), member, "owner").await;
    let demoted = set_role(&admin, member, "member").await;
    let removed = remove(&admin, member).await;

    assert_eq!(promoted.body["role"], "admin");
    for rejected in [made_owner, demoted_owner, removed_owner, by_partner] {
        assert_eq!(rejected.summary(), "403 forbidden");
        assert!(rejected.body["detail"].as_str().unwrap().contains("owners"));
    }
    assert_eq!(demoted.body["role"], "member");
    assert_eq!(
        (removed.status.as_u16(), &removed.body["role"]),
        (200, &json!("member"))
    );
}

#[tokio::test]
async fn owners_promote_and_demote_owners() {
    let app = with_one_owner().await;
    let owner = app.client(Persona::Owner);
    let (own, admin) = (
        id_of(&app, Persona::Owner).await,
        id_of(&app, Persona::Admin).await,
    );

    let alone = set_role(&owner, own, "admin").await;
    let made = set_role(&owner, admin, "owner").await;
    let resigned = set_role(&owner, own, "member").await;
    let more = set_role(&owner, admin, "admin").await;
    let last = app.client(Persona::Admin);
    let left = remove(&last, admin).await;
    let resigned_last = set_role(&last, admin, "member").await;

    assert_eq!(alone.summary(), "409 last_owner");
    assert_eq!(made.body["role"], "owner");
    assert_eq!(resigned.body["role"], "member");
    assert_eq!(more.summary(), "403 forbidden", "no longer an owner");
    assert_eq!(left.summary(), "409 own_account");
    assert_eq!(resigned_last.summary(), "409 last_owner");
}

#[tokio::test]
async fn two_owners_removing_each_other_leave_one() {
    for _ in 0..5 {
        let app = with_one_owner().await;
        let (one, other) = (app.client(Persona::Owner), app.client(Persona::Admin));
        let (one_id, other_id) = (
            id_of(&app, Persona::Owner).await,
            id_of(&app, Persona::Admin).await,
        );
        set_role(&one, other_id, "owner").await;

        let both = tokio::join!(remove(&one, other_id), remove(&other, one_id));

        let replies = [both.0, both.1];
        let removed = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(removed, 1, "{replies:?}");
        // The second request comes from a former owner, or targets the last one.
        let rejected = replies.iter().find(|reply| reply.status != 200).unwrap();
        assert!(
            ["409 last_owner", "404 not_found"].contains(&rejected.summary().as_str()),
            "{rejected:?}"
        );
        let owners = app.operator().get("/tenants/demo/users").await;
        let owners = owners.items().iter();
        assert_eq!(owners.filter(|user| user["role"] == "owner").count(), 1);
    }
}

#[tokio::test]
async fn a_removed_user_loses_access_on_the_next_request_and_tokens_do_not_restore_it() {
    let app = TestApp::with_demo().await;
    let member = app.user(Caller::Member).await.id;
    let client = app.member();
    let read = async || client.get("/tenants/demo").await.status;
    let owner = app.owner();

    let before = read().await;
    let removed = remove(&owner, member).await;
    let after = read().await;
    let again = remove(&owner, member).await;
    let me = client.get("/users/me").await;
    let renamed = set_role(&owner, member, "member").await;

    assert_eq!((before.as_u16(), after.as_u16()), (200, 404));
    assert_eq!(removed.status, 200);
    assert_eq!(again.summary(), "404 not_found");
    assert_eq!(me.body["tenants"], json!([]));
    assert_eq!(renamed.summary(), "404 not_found", "no longer a member");
}

#[tokio::test]
async fn a_role_change_applies_to_the_next_request() {
    let app = TestApp::with_personas().await;
    let admin = app.client(Persona::Admin);
    let edit = async || {
        let reply = admin
            .patch("/tenants/demo", json!({ "industry": "x" }))
            .await;
        reply.status.as_u16()
    };

    let before = edit().await;
    let id = id_of(&app, Persona::Admin).await;
    set_role(&app.client(Persona::Owner), id, "member").await;
    let after = edit().await;

    assert_eq!((before, after), (200, 403));
}

#[tokio::test]
async fn users_of_other_tenants_are_not_found() {
    let app = TestApp::with_personas().await;
    let owner = app.client(Persona::Owner);

    for persona in [
        Persona::OtherOwner,
        Persona::Stranger,
        Persona::PartnerOwner,
    ] {
        let id = id_of(&app, persona).await;
        let path = format!("/tenants/demo/users/{id}");
        let shown = owner.get(&path).await;
        let changed = set_role(&owner, id, "member").await;
        let removed = remove(&owner, id).await;

        for reply in [shown, changed, removed] {
            assert_eq!(reply.summary(), "404 not_found", "{persona:?}");
        }
    }
}

#[tokio::test]
async fn a_role_change_is_recorded_once_in_the_tenants_audit_trail() {
    let app = TestApp::with_personas().await;
    let owner = app.client(Persona::Owner);
    let member = id_of(&app, Persona::Member).await;
    let tenant = app.tenant("demo").await.id;
    let events = app.count("audit_events").await;

    let first = set_role(&owner, member, "admin").await;
    let same = set_role(&owner, member, "admin").await;
    let stale = owner
        .delete(format!("/tenants/demo/users/{member}"))
        .if_match("\"0.0\"")
        .await;
    let invalid = set_role(&owner, member, "boss").await;

    assert_eq!(first.etag(), same.etag());
    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(invalid.summary(), "422 validation_failed");
    assert_eq!(invalid.body["errors"][0]["pointer"], "/role");
    assert_eq!(app.count("audit_events").await - events, 1);
    let event = app
        .collection("audit_events")
        .find_one(doc! { "action": "user.update", "tenantId": tenant })
        .sort(doc! { "_id": -1 })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        event
            .get_document("actor")
            .unwrap()
            .get_str("kind")
            .unwrap(),
        "tenant"
    );
    assert_eq!(
        event.get_document("after").unwrap(),
        &doc! { "tenantRoles": { tenant.to_string(): "admin" } }
    );
}

#[tokio::test]
async fn tenant_users_are_paginated() {
    let app = TestApp::with_personas().await;
    let mut seen = Vec::new();
    let mut cursor = String::new();

    loop {
        let path = format!("/tenants/demo/users?limit=1{cursor}");
        let page = app.operator().get(&path).await;
        let items = page.items();
        seen.extend(items.iter().map(|user| user["id"].clone()));
        match &page.body["nextCursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }

    let whole = app.operator().get("/tenants/demo/users").await;
    let whole: Vec<Value> = whole
        .items()
        .iter()
        .map(|user| user["id"].clone())
        .collect();
    assert!(whole.len() > 3, "{whole:?}");
    assert_eq!(seen, whole);
}

#[tokio::test]
async fn a_former_owner_gets_no_replayed_ownership_response() {
    let app = TestApp::with_personas().await;
    let admin = id_of(&app, Persona::Admin).await;
    let owner = app.client(Persona::Owner);
    let make_owner = async || {
        owner
            .patch(
                format!("/tenants/demo/users/{admin}"),
                json!({ "role": "owner" }),
            )
            .idempotency_key("once")
            .await
    };
    let made = make_owner().await;
    set_role(
        &app.client(Persona::Operator),
        id_of(&app, Persona::Owner).await,
        "admin",
    )
    .await;
    set_role(&app.client(Persona::Operator), admin, "member").await;

    let repeated = make_owner().await;

    assert_eq!(made.summary(), "200");
    assert_eq!(repeated.summary(), "403 forbidden");
}
