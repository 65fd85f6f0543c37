//! What operators do with users.

use bson::doc;
use dezky_shared::{
    id::{PartnerId, UserId},
    platform::clock,
    user::{PartnerRole, Role},
};
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, id_of};

const NEW: &str = "00000000-0000-4000-a000-00000000000a";

async fn add(app: &TestApp, body: &Value) -> Reply {
    app.post("/users")
        .by(Caller::Operator)
        .json(body)
        .send()
        .await
}

async fn set(app: &TestApp, id: UserId, body: Value) -> Reply {
    app.patch(&format!("/users/{id}"))
        .by(Caller::Operator)
        .json(&body)
        .send()
        .await
}

async fn delete(app: &TestApp, id: UserId) -> Reply {
    app.delete(&format!("/users/{id}"))
        .by(Caller::Operator)
        .send()
        .await
}

/// The addresses in a list, page by page.
async fn emails(app: &TestApp, filters: &str) -> Vec<String> {
    let mut emails = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/users?limit=2&{filters}{cursor}");
        let page = app.get(&path).by(Caller::Operator).send().await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        let items = page.body["items"].as_array().unwrap();
        emails.extend(
            items
                .iter()
                .map(|user| user["email"].as_str().unwrap().to_owned()),
        );
        match page.body["nextCursor"].as_str() {
            None => return emails,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}

#[tokio::test]
async fn somebody_is_added_before_they_sign_in_and_then_is_who_was_added() {
    let app = TestApp::with_demo().await;
    let partner = app.insert_partner("nordic", "active").await;
    let body = json!({
        "authentikSubjectId": NEW.to_uppercase(), "email": "Ada@Example.com", "name": " Ada ",
        "tenantRoles": { "demo": "admin" }, "platformAdmin": false,
        "partnerId": partner.to_string(), "partnerRole": "support",
    });

    let added = add(&app, &body).await;
    let shown = app
        .get(added.header("location").unwrap())
        .by(Caller::Operator)
        .send()
        .await;
    let token = TokenSpec {
        subject: NEW.to_owned(),
        groups: Some(vec!["dezky-platform-admins".to_owned()]),
        email: None,
        name: None,
        ..Caller::Stranger.token()
    };
    let me = app.get("/users/me").token(&app.token(&token)).send().await;

    assert_eq!((added.status.as_u16(), added.etag()), (201, "\"1.1\""));
    assert_eq!(shown.body, added.body);
    assert_eq!(
        (&added.body["authentikSubjectId"], &added.body["email"]),
        (&json!(NEW), &json!("ada@example.com"))
    );
    assert!(added.body["lastSeenAt"].is_null());
    assert_eq!(me.body["id"], added.body["id"]);
    assert_eq!(me.body["name"], "Ada");
    assert_eq!(me.body["tenants"][0]["role"], "admin");
    assert_eq!(me.body["partner"]["role"], "support");
    assert_eq!(me.body["platformAdmin"], false, "it was said here");
    assert_eq!(app.actions().await.last().unwrap(), "user.create");
}

#[tokio::test]
async fn a_subject_is_known_once_and_the_same_request_is_answered_the_same() {
    let app = TestApp::with_demo().await;
    let body = json!({ "authentikSubjectId": NEW, "email": "ada@example.com", "name": "Ada" });
    let add_once = app
        .post("/users")
        .by(Caller::Operator)
        .header("idempotency-key", "k")
        .json(&body);

    let (first, at_once) = tokio::join!(add_once.clone().send(), add(&app, &body));
    let again = add_once.send().await;

    let mut found = [first.summary(), at_once.summary()];
    found.sort();
    assert_eq!(found, ["201", "409 user_exists"]);
    assert_eq!(again.summary(), first.summary());
    let people = app.collection("users");
    let known = people.count_documents(doc! { "authentikSubjectId": NEW });
    assert_eq!(known.await.unwrap(), 1);
}

#[tokio::test]
async fn all_wrong_values_are_named_at_once_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let known = app.count("users").await;
    let stranger = app.user(Caller::Stranger).await;
    let body = json!({
        "authentikSubjectId": "ada", "email": "ada", "name": " ", "tenantRoles": { "demo": "boss" },
        "partnerId": "7", "partnerRole": "boss",
    });
    let mut patch = body.clone();
    patch.as_object_mut().unwrap().remove("authentikSubjectId");

    let added = add(&app, &body).await;
    let patched = set(&app, stranger.id, patch).await;
    let alone = add(
        &app,
        &json!({ "authentikSubjectId": NEW, "email": "a@b.test", "name": "A", "partnerRole": "owner" }),
    )
    .await;

    let expected = [
        ("/email", "invalid_email"),
        ("/name", "too_short"),
        ("/tenantRoles/demo", "invalid_role"),
        ("/partnerId", "invalid_id"),
        ("/partnerRole", "invalid_partner_role"),
    ];
    assert_eq!(patched.errors(), expected);
    assert_eq!(
        added.errors(),
        [
            [("/authentikSubjectId", "invalid_id")].as_slice(),
            &expected
        ]
        .concat()
    );
    assert_eq!(alone.errors(), [("/partnerRole", "needs_partner")]);
    assert_eq!(app.count("users").await, known);
    assert_eq!(app.user(Caller::Stranger).await, stranger);
}

#[tokio::test]
async fn nobody_works_for_a_partner_that_is_not_there_or_was_terminated() {
    let app = TestApp::with_demo().await;
    let stranger = app.user(Caller::Stranger).await;
    let former = app.insert_partner("former", "terminated").await;

    for partner in [PartnerId::new(), former] {
        let id = partner.to_string();
        let rights = json!({ "partnerId": id, "tenantRoles": { "nowhere": "owner" } });
        let mut new = json!({ "authentikSubjectId": NEW, "email": "a@b.test", "name": "A" });
        new.as_object_mut()
            .unwrap()
            .extend(rights.as_object().unwrap().clone());

        for reply in [set(&app, stranger.id, rights).await, add(&app, &new).await] {
            let expected = [
                ("/tenantRoles/nowhere", "unknown_tenant"),
                ("/partnerId", "unknown_partner"),
            ];
            assert_eq!(reply.errors(), expected);
        }
    }
    assert_eq!(app.user(Caller::Stranger).await, stranger);
}

#[tokio::test]
async fn a_partner_is_given_and_taken_and_an_access_level_is_for_one_partner() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let nordic = app.insert_partner("nordic", "active").await;
    let other = app.insert_partner("other", "active").await;
    app.set_tenant("demo", doc! { "partnerId": nordic }).await;
    let token = app.token(&Caller::Stranger.token());
    let look = async || app.get("/tenants/demo").token(&token).send().await.status;

    let role_alone = set(&app, id, json!({ "partnerRole": "owner" })).await;
    let hired = json!({ "partnerId": nordic.to_string(), "partnerRole": "manager" });
    let hired = set(&app, id, hired).await;
    let seen = look().await;
    let again = set(&app, id, json!({ "partnerId": nordic.to_string() })).await;
    let moved = set(&app, id, json!({ "partnerId": other.to_string() })).await;
    let seen_after = look().await;
    let fired = set(&app, id, json!({ "partnerId": null })).await;

    assert_eq!(role_alone.errors(), [("/partnerRole", "needs_partner")]);
    assert_eq!(hired.body["partnerRole"], "manager");
    assert_eq!(again.body["partnerRole"], "manager");
    assert_eq!(moved.body["partnerId"], other.to_string());
    assert_eq!(moved.body["partnerRole"], Value::Null);
    assert_eq!((seen.as_u16(), seen_after.as_u16()), (200, 404));
    assert_eq!(fired.body["partnerId"], Value::Null);
    let events = app.collection("audit_events");
    let event = events
        .find_one(doc! { "action": "user.update", "after.partnerRole": "manager" })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        event.get_document("after").unwrap(),
        &doc! { "partnerId": nordic.to_string(), "partnerRole": "manager" }
    );
    assert!(event.get("tenantId").is_none(), "it is no tenant's affair");
}

#[tokio::test]
async fn lists_show_who_is_asked_for() {
    let app = TestApp::with_demo().await;
    app.create("acme").await;
    let partner = app.with_partner("support").await;
    let member = app.user(Caller::Member).await.id;
    set(
        &app,
        member,
        json!({ "tenantRoles": { "demo": null, "acme": "member" } }),
    )
    .await;

    let everybody = emails(&app, "").await;

    assert_eq!(everybody.len(), Caller::ALL.len());
    let email = |caller: Caller| vec![caller.email()];
    assert_eq!(
        emails(&app, "email=OWNER@demo.test").await,
        email(Caller::Owner)
    );
    assert_eq!(
        emails(&app, &format!("partnerId={partner}")).await,
        email(Caller::Partner)
    );
    assert_eq!(
        emails(&app, "platformAdmin=true").await,
        email(Caller::Operator)
    );
    assert_eq!(emails(&app, "platformAdmin=false").await.len(), 5);
    assert_eq!(
        emails(&app, "tenant=demo").await,
        email(Caller::Owner),
        "whoever was taken out is not shown"
    );
    assert_eq!(
        emails(&app, "tenant=acme&platformAdmin=false").await,
        email(Caller::Member)
    );
    for nobody in [
        "tenant=nowhere",
        "email=nobody@demo.test",
        "tenant=acme&email=x",
    ] {
        assert!(emails(&app, nobody).await.is_empty(), "{nobody}");
    }
}

#[tokio::test]
async fn every_filter_of_the_list_has_an_index_that_sorts_too() {
    let app = TestApp::with_demo().await;
    let place = doc! { "tenantId": app.tenant("demo").await.id, "role": { "$ne": null } };
    let filters = [
        ("email", doc! { "email": "a@b.test" }),
        ("partnerId", doc! { "partnerId": PartnerId::new() }),
        ("platformAdmin", doc! { "platformAdmin": true }),
        (
            "memberships.tenantId",
            doc! { "memberships": { "$elemMatch": place } },
        ),
    ];

    for (field, filter) in filters {
        let find = doc! { "find": "users", "filter": filter, "sort": { "_id": 1 }, "limit": 25 };
        let explain = doc! { "explain": find, "verbosity": "queryPlanner" };
        let explained = app.state.store.database().run_command(explain).await;

        let plans = explained
            .unwrap()
            .get_document("queryPlanner")
            .unwrap()
            .clone();
        let plan = plans.get_document("winningPlan").unwrap().to_string();
        assert!(
            plan.contains(&format!("{field}_1__id_1")),
            "{field}: {plan}"
        );
        assert!(!plan.contains("\"SORT\""), "{field}: {plan}");
    }
}

#[tokio::test]
async fn whoever_is_deleted_has_no_rights_and_may_come_back_as_somebody_new() {
    let app = TestApp::with_demo().await;
    let member = app.user(Caller::Member).await.id;
    set(
        &app,
        member,
        json!({ "tenantRoles": { "demo": "admin" }, "platformAdmin": true }),
    )
    .await;
    let token = app.token(&Caller::Member.token());
    let look = async || app.get("/tenants/demo").token(&token).send().await;

    let before = look().await;
    let deleted = delete(&app, member).await;
    let after = look().await;
    let again = delete(&app, member).await;
    let back = app.get("/users/me").token(&token).send().await;
    let newer = TokenSpec {
        issued_at: Some(clock::now().timestamp_millis() / 1_000 + 1),
        ..Caller::Member.token()
    };
    let newer = app.get("/users/me").token(&app.token(&newer)).send().await;

    assert_eq!(before.status, 200);
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.body["email"], Caller::Member.email());
    assert_eq!(after.summary(), "403 user_unknown");
    assert_eq!(again.summary(), "404 not_found");
    assert_ne!(id_of::<UserId>(&back.body["id"]), member);
    assert_eq!(
        (&back.body["platformAdmin"], &back.body["tenants"]),
        (&json!(false), &json!([])),
        "what an old token says counts no more"
    );
    assert_eq!(newer.body["tenants"][0]["role"], "member");
    let event = app
        .collection("audit_events")
        .find_one(doc! { "action": "user.delete" })
        .await
        .unwrap()
        .unwrap();
    let before = event.get_document("before").unwrap();
    assert_eq!(before.get_str("email").unwrap(), Caller::Member.email());
    assert!(event.get_document("after").unwrap().is_empty());
}

#[tokio::test]
async fn neither_the_last_owner_nor_oneself_is_deleted() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await.id;
    let own = app.user(Caller::Operator).await.id;

    let last = delete(&app, owner).await;
    let oneself = delete(&app, own).await;
    app.set_tenant("demo", doc! { "status": "terminated" })
        .await;
    let of_a_removed_tenant = delete(&app, owner).await;

    assert_eq!(last.summary(), "409 last_owner");
    assert_eq!(oneself.summary(), "409 own_user");
    assert_eq!(of_a_removed_tenant.summary(), "200");
}

#[tokio::test]
async fn of_two_owners_who_are_deleted_at_once_one_stays() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await.id;
    let other = app.user(Caller::Stranger).await.id;
    set(&app, other, json!({ "tenantRoles": { "demo": "owner" } })).await;

    let both = tokio::join!(delete(&app, owner), delete(&app, other));

    let mut found = [both.0.summary(), both.1.summary()];
    found.sort();
    assert_eq!(found, ["200", "409 last_owner"]);
}

#[tokio::test]
async fn of_many_edits_of_one_version_one_counts() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let version = app
        .get(&format!("/users/{id}"))
        .by(Caller::Operator)
        .send()
        .await;
    let rename = |n: usize| {
        app.patch(&format!("/users/{id}"))
            .by(Caller::Operator)
            .header("if-match", version.etag())
            .json(&json!({ "name": format!("Name {n}") }))
            .send()
    };

    let replies = join_all((0..10).map(rename)).await;
    let stale = app
        .delete(&format!("/users/{id}"))
        .by(Caller::Operator)
        .header("if-match", version.etag())
        .send()
        .await;

    let won: Vec<&Reply> = replies.iter().filter(|reply| reply.status == 200).collect();
    assert_eq!(won.len(), 1, "{replies:?}");
    assert_eq!(
        won[0].body["name"],
        json!(app.user(Caller::Stranger).await.name)
    );
    assert!(
        replies
            .iter()
            .all(|reply| reply.status == 200 || reply.summary() == "412 precondition_failed")
    );
    assert_eq!(stale.summary(), "412 precondition_failed");
}

#[tokio::test]
async fn edits_of_different_fields_at_once_are_all_kept() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let tenant = app.tenant("demo").await.id;
    let partner = app.insert_partner("nordic", "active").await;

    let edits = [
        json!({ "name": "Another" }),
        json!({ "email": "another@example.com" }),
        json!({ "tenantRoles": { "demo": "admin" } }),
        json!({ "platformAdmin": true }),
        json!({ "partnerId": partner.to_string(), "partnerRole": "manager" }),
    ];
    let replies = join_all(edits.map(|edit| set(&app, id, edit))).await;

    assert!(
        replies.iter().all(|reply| reply.status == 200),
        "{replies:?}"
    );
    let user = app.user(Caller::Stranger).await;
    assert_eq!(
        (user.name.as_str(), user.email.as_str()),
        ("Another", "another@example.com")
    );
    assert_eq!(user.role_in(tenant), Some(Role::Admin));
    assert_eq!(
        (user.platform_admin, user.partner_id, user.partner_role),
        (true, Some(partner), Some(PartnerRole::Manager))
    );
}
