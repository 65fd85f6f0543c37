//! The people of a tenant, as those see and change them who look after it.

use bson::{DateTime, doc};
use dezky_shared::id::UserId;
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp},
    everyone::Who,
};

async fn set_role(app: &TestApp, token: &str, id: UserId, role: &str) -> Reply {
    app.patch(&format!("/tenants/demo/users/{id}"))
        .token(token)
        .json(&json!({ "role": role }))
        .send()
        .await
}

async fn remove(app: &TestApp, token: &str, id: UserId) -> Reply {
    app.delete(&format!("/tenants/demo/users/{id}"))
        .token(token)
        .send()
        .await
}

async fn id_of(app: &TestApp, who: Who) -> UserId {
    let subject = who.token().unwrap().subject;
    let user = app.state.users.find_by_subject(&subject).await;
    user.unwrap().unwrap().id
}

fn token(app: &TestApp, who: Who) -> String {
    app.token(&who.token().unwrap())
}

/// Everybody, with one owner of `demo`.
async fn with_one_owner() -> TestApp {
    let app = TestApp::with_everyone().await;
    let mut second = app.user(Caller::Owner).await;
    second.memberships.clear();
    app.put_user(&second).await;
    app
}

#[tokio::test]
async fn a_tenants_people_are_shown_with_role_status_and_second_factors() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let new = json!({
        "authentikSubjectId": "00000000-0000-4000-a000-00000000000a", "email": "new@demo.test", "name": "New",
        "tenantRoles": { "demo": "admin", "other": "owner" },
    });
    app.post("/users")
        .by(Caller::Operator)
        .json(&new)
        .send()
        .await;
    let users = app.collection("users");
    let looked_up = DateTime::from_millis(1_795_339_800_000);
    let look = doc! { "$set": { "mfa": { "devices": 2, "lookedUpAt": looked_up } } };
    let member = doc! { "authentikSubjectId": Caller::Member.subject() };
    users.update_one(member, look).await.unwrap();

    let list = app
        .get("/tenants/demo/users")
        .by(Caller::Owner)
        .send()
        .await;

    insta::assert_json_snapshot!(list.body, { ".items[].id" => "[id]", ".items[].lastSeenAt" => "[time]" }, @r#"
    {
      "items": [
        {
          "email": "member@demo.test",
          "id": "[id]",
          "lastSeenAt": "[time]",
          "mfa": {
            "devices": 2,
            "lookedUpAt": "2026-11-22T09:30:00.000Z"
          },
          "name": "Demo member",
          "revision": 1,
          "role": "member",
          "status": "active"
        },
        {
          "email": "owner@demo.test",
          "id": "[id]",
          "lastSeenAt": "[time]",
          "name": "Demo owner",
          "revision": 2,
          "role": "owner",
          "status": "active"
        },
        {
          "email": "new@demo.test",
          "id": "[id]",
          "name": "New",
          "revision": 1,
          "role": "admin",
          "status": "invited"
        }
      ],
      "nextCursor": null
    }
    "#);
    for item in list.body["items"].as_array().unwrap() {
        let path = format!("/tenants/demo/users/{}", item["id"].as_str().unwrap());
        let shown = app.get(&path).by(Caller::Owner).send().await;
        assert_eq!(&shown.body, item);
    }
}

#[tokio::test]
async fn admins_change_and_remove_members_and_admins_and_no_owners() {
    let app = TestApp::with_everyone().await;
    let (admin, owner) = (token(&app, Who::Admin), id_of(&app, Who::Owner).await);
    let member = id_of(&app, Who::Member).await;

    let promoted = set_role(&app, &admin, member, "admin").await;
    let made_owner = set_role(&app, &admin, member, "owner").await;
    let unmade = set_role(&app, &admin, owner, "member").await;
    let removed_owner = remove(&app, &admin, owner).await;
    let by_partner = set_role(&app, &token(&app, Who::PartnerOwner), member, "owner").await;
    let demoted = set_role(&app, &admin, member, "member").await;
    let removed = remove(&app, &admin, member).await;

    assert_eq!(promoted.body["role"], "admin");
    for refused in [made_owner, unmade, removed_owner, by_partner] {
        assert_eq!(refused.summary(), "403 forbidden");
        assert!(refused.body["detail"].as_str().unwrap().contains("owners"));
    }
    assert_eq!(demoted.body["role"], "member");
    assert_eq!(
        (removed.status.as_u16(), &removed.body["role"]),
        (200, &json!("member"))
    );
}

#[tokio::test]
async fn owners_make_and_unmake_owners() {
    let app = with_one_owner().await;
    let owner = token(&app, Who::Owner);
    let (own, admin) = (id_of(&app, Who::Owner).await, id_of(&app, Who::Admin).await);

    let alone = set_role(&app, &owner, own, "admin").await;
    let made = set_role(&app, &owner, admin, "owner").await;
    let resigned = set_role(&app, &owner, own, "member").await;
    let more = set_role(&app, &owner, admin, "admin").await;
    let by_the_other = remove(&app, &token(&app, Who::Admin), admin).await;

    assert_eq!(alone.summary(), "409 last_owner");
    assert_eq!(made.body["role"], "owner");
    assert_eq!(resigned.body["role"], "member");
    assert_eq!(more.summary(), "403 forbidden", "they are an owner no more");
    assert_eq!(by_the_other.summary(), "409 last_owner");
}

#[tokio::test]
async fn of_two_owners_who_remove_each_other_at_once_one_stays() {
    for _ in 0..5 {
        let app = with_one_owner().await;
        let (one, other) = (token(&app, Who::Owner), token(&app, Who::Admin));
        let (one_id, other_id) = (id_of(&app, Who::Owner).await, id_of(&app, Who::Admin).await);
        set_role(&app, &one, other_id, "owner").await;

        let both = tokio::join!(remove(&app, &one, other_id), remove(&app, &other, one_id));

        let replies = [both.0, both.1];
        let removed = replies.iter().filter(|reply| reply.status == 200).count();
        assert_eq!(removed, 1, "{replies:?}");
        // Whoever came later was an owner no more, or the last.
        let refused = replies.iter().find(|reply| reply.status != 200).unwrap();
        assert!(
            ["409 last_owner", "404 not_found"].contains(&refused.summary().as_str()),
            "{refused:?}"
        );
        let owners = app
            .get("/tenants/demo/users")
            .by(Caller::Operator)
            .send()
            .await;
        let owners = owners.body["items"].as_array().unwrap().iter();
        assert_eq!(owners.filter(|user| user["role"] == "owner").count(), 1);
    }
}

#[tokio::test]
async fn whoever_is_removed_sees_nothing_on_the_very_next_request_and_no_token_gives_it_back() {
    let app = TestApp::with_demo().await;
    let member = app.user(Caller::Member).await.id;
    let theirs = app.token(&Caller::Member.token());
    let look = async || app.get("/tenants/demo").token(&theirs).send().await.status;
    let owner = app.token(&Caller::Owner.token());

    let before = look().await;
    let removed = remove(&app, &owner, member).await;
    let after = look().await;
    let again = remove(&app, &owner, member).await;
    let me = app.get("/users/me").token(&theirs).send().await;
    let renamed = set_role(&app, &owner, member, "member").await;

    assert_eq!((before.as_u16(), after.as_u16()), (200, 404));
    assert_eq!(removed.status, 200);
    assert_eq!(again.summary(), "404 not_found");
    assert_eq!(me.body["tenants"], json!([]));
    assert_eq!(renamed.summary(), "404 not_found", "they are not in it");
}

#[tokio::test]
async fn a_changed_role_counts_on_the_very_next_request() {
    let app = TestApp::with_everyone().await;
    let admin = token(&app, Who::Admin);
    let edit = async || {
        let call = app.patch("/tenants/demo").token(&admin);
        let reply = call.json(&json!({ "industry": "x" })).send().await;
        reply.status.as_u16()
    };

    let before = edit().await;
    let id = id_of(&app, Who::Admin).await;
    set_role(&app, &token(&app, Who::Owner), id, "member").await;
    let after = edit().await;

    assert_eq!((before, after), (200, 403));
}

#[tokio::test]
async fn people_of_other_tenants_are_not_there() {
    let app = TestApp::with_everyone().await;
    let owner = token(&app, Who::Owner);

    for who in [Who::OtherOwner, Who::Stranger, Who::PartnerOwner] {
        let id = id_of(&app, who).await;
        let path = format!("/tenants/demo/users/{id}");
        let shown = app.get(&path).token(&owner).send().await;
        let changed = set_role(&app, &owner, id, "member").await;
        let removed = remove(&app, &owner, id).await;

        for reply in [shown, changed, removed] {
            assert_eq!(reply.summary(), "404 not_found", "{who:?}");
        }
    }
}

#[tokio::test]
async fn a_change_is_recorded_in_the_tenants_own_trail_and_once() {
    let app = TestApp::with_everyone().await;
    let owner = token(&app, Who::Owner);
    let member = id_of(&app, Who::Member).await;
    let tenant = app.tenant("demo").await.id;
    let events = app.count("audit_events").await;

    let first = set_role(&app, &owner, member, "admin").await;
    let same = set_role(&app, &owner, member, "admin").await;
    let stale = app
        .delete(&format!("/tenants/demo/users/{member}"))
        .token(&owner)
        .header("if-match", "\"0.0\"")
        .send()
        .await;
    let wrong = set_role(&app, &owner, member, "boss").await;

    assert_eq!(first.etag(), same.etag());
    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(wrong.summary(), "422 validation_failed");
    assert_eq!(wrong.body["errors"][0]["pointer"], "/role");
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
async fn a_long_list_comes_in_pages() {
    let app = TestApp::with_everyone().await;
    let mut seen = Vec::new();
    let mut cursor = String::new();

    loop {
        let path = format!("/tenants/demo/users?limit=1{cursor}");
        let page = app.get(&path).by(Caller::Operator).send().await;
        let items = page.body["items"].as_array().unwrap();
        seen.extend(items.iter().map(|user| user["id"].clone()));
        match &page.body["nextCursor"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }

    let whole = app
        .get("/tenants/demo/users")
        .by(Caller::Operator)
        .send()
        .await;
    let whole: Vec<Value> = whole.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|user| user["id"].clone())
        .collect();
    assert!(whole.len() > 3, "{whole:?}");
    assert_eq!(seen, whole);
}

#[tokio::test]
async fn whoever_owns_a_tenant_no_more_is_answered_no_repeated_request_about_owners() {
    let app = TestApp::with_everyone().await;
    let admin = id_of(&app, Who::Admin).await;
    let owner = token(&app, Who::Owner);
    let make_owner = async || {
        app.patch(&format!("/tenants/demo/users/{admin}"))
            .token(&owner)
            .header("idempotency-key", "once")
            .json(&json!({ "role": "owner" }))
            .send()
            .await
    };
    let made = make_owner().await;
    set_role(
        &app,
        &token(&app, Who::Operator),
        id_of(&app, Who::Owner).await,
        "admin",
    )
    .await;
    set_role(&app, &token(&app, Who::Operator), admin, "member").await;

    let repeated = make_owner().await;

    assert_eq!(made.summary(), "200");
    assert_eq!(repeated.summary(), "403 forbidden");
}
