//! User management by operators.

use bson::doc;
use dezky_shared::{
    id::{PartnerId, UserId},
    platform::clock,
    user::{PartnerRole, Role},
};
use dezky_sim::{callers::Caller, issuer::TokenSpec};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::app::{TestApp, id_of};
use crate::client::{Reply, send_all, sorted_summaries};

const NEW: &str = "00000000-0000-4000-a000-00000000000a";

async fn add(app: &TestApp, body: &Value) -> Reply {
    app.operator().post("/users", body).await
}

async fn set(app: &TestApp, id: UserId, body: Value) -> Reply {
    app.operator().patch(format!("/users/{id}"), &body).await
}

async fn delete(app: &TestApp, id: UserId) -> Reply {
    app.operator().delete(format!("/users/{id}")).await
}

/// E-mail addresses of all pages of a list.
async fn emails(app: &TestApp, filters: &str) -> Vec<String> {
    let mut emails = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/users?limit=2&{filters}{cursor}");
        let page = app.operator().get(&path).await;
        assert_eq!(page.status, 200, "{path}: {page:?}");
        emails.extend(page.texts("/email").into_iter().map(str::to_owned));
        match page.body["nextCursor"].as_str() {
            None => return emails,
            Some(next) => cursor = format!("&cursor={next}"),
        }
    }
}

#[tokio::test]
async fn a_user_created_in_advance_is_matched_at_first_sign_in() {
    let app = TestApp::with_demo().await;
    let partner = app.insert_partner("nordic", "active").await;
    let body = json!({
        "authentikSubjectId": NEW.to_uppercase(), "email": "Ada@Example.com", "name": " Ada ",
        "tenantRoles": { "demo": "admin" }, "platformAdmin": false,
        "partnerId": partner.to_string(), "partnerRole": "support",
    });

    let added = add(&app, &body).await;
    let shown = app.operator().get(added.header("location").unwrap()).await;
    let token = TokenSpec {
        subject: NEW.to_owned(),
        groups: Some(vec!["dezky-platform-admins".to_owned()]),
        email: None,
        name: None,
        ..Caller::Stranger.token()
    };
    let me = app.client(&token).get("/users/me").await;

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
    assert_eq!(
        me.body["platformAdmin"], false,
        "set explicitly at creation"
    );
    assert_eq!(app.actions().await.last().unwrap(), "user.create");
}

#[tokio::test]
async fn user_subjects_are_unique_and_creation_is_idempotent() {
    let app = TestApp::with_demo().await;
    let body = json!({ "authentikSubjectId": NEW, "email": "ada@example.com", "name": "Ada" });
    let add_once = app.operator().post("/users", &body).idempotency_key("k");

    let (first, at_once) = tokio::join!(add_once.clone().send(), add(&app, &body));
    let again = add_once.await;

    let mut found = [first.summary(), at_once.summary()];
    found.sort();
    assert_eq!(found, ["201", "409 user_exists"]);
    assert_eq!(again.summary(), first.summary());
    let people = app.collection("users");
    let count = people.count_documents(doc! { "authentikSubjectId": NEW });
    assert_eq!(count.await.unwrap(), 1);
}

#[tokio::test]
async fn all_invalid_fields_are_reported_together_and_nothing_is_stored() {
    let app = TestApp::with_demo().await;
    let users_before = app.count("users").await;
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
    assert_eq!(app.count("users").await, users_before);
    assert_eq!(app.user(Caller::Stranger).await, stranger);
}

#[tokio::test]
async fn a_user_cannot_join_an_unknown_or_terminated_partner() {
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
async fn a_partner_assignment_can_be_set_and_cleared_and_resets_the_access_level() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let nordic = app.insert_partner("nordic", "active").await;
    let other = app.insert_partner("other", "active").await;
    app.set_tenant("demo", doc! { "partnerId": nordic }).await;
    let client = app.stranger();
    let read = async || client.get("/tenants/demo").await.status;

    let role_alone = set(&app, id, json!({ "partnerRole": "owner" })).await;
    let assigned = json!({ "partnerId": nordic.to_string(), "partnerRole": "manager" });
    let assigned = set(&app, id, assigned).await;
    let seen = read().await;
    let again = set(&app, id, json!({ "partnerId": nordic.to_string() })).await;
    let moved = set(&app, id, json!({ "partnerId": other.to_string() })).await;
    let seen_after = read().await;
    let cleared = set(&app, id, json!({ "partnerId": null })).await;

    assert_eq!(role_alone.errors(), [("/partnerRole", "needs_partner")]);
    assert_eq!(assigned.body["partnerRole"], "manager");
    assert_eq!(again.body["partnerRole"], "manager");
    assert_eq!(moved.body["partnerId"], other.to_string());
    assert_eq!(moved.body["partnerRole"], Value::Null);
    assert_eq!((seen.as_u16(), seen_after.as_u16()), (200, 404));
    assert_eq!(cleared.body["partnerId"], Value::Null);
    let update = doc! { "action": "user.update", "after.partnerRole": "manager" };
    let event = app.document("audit_events", update).await;
    assert_eq!(
        event.get_document("after").unwrap(),
        &doc! { "partnerId": nordic.to_string(), "partnerRole": "manager" }
    );
    assert!(
        event.get("tenantId").is_none(),
        "partner changes belong to no tenant's trail"
    );
}

#[tokio::test]
async fn user_list_filters_select_matching_users() {
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

    let all = emails(&app, "").await;

    assert_eq!(all.len(), Caller::ALL.len());
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
        "removed members are not listed"
    );
    assert_eq!(
        emails(&app, "tenant=acme&platformAdmin=false").await,
        email(Caller::Member)
    );
    for query in [
        "tenant=nowhere",
        "email=unknown@demo.test",
        "tenant=acme&email=x",
    ] {
        assert!(emails(&app, query).await.is_empty(), "{query}");
    }
}

#[tokio::test]
async fn every_list_filter_uses_a_sorted_index() {
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
async fn a_deleted_user_loses_all_rights_and_can_sign_in_as_a_new_user() {
    let app = TestApp::with_demo().await;
    let member = app.user(Caller::Member).await.id;
    set(
        &app,
        member,
        json!({ "tenantRoles": { "demo": "admin" }, "platformAdmin": true }),
    )
    .await;
    let client = app.member();
    let read = async || client.get("/tenants/demo").await;

    let before = read().await;
    let deleted = delete(&app, member).await;
    let after = read().await;
    let again = delete(&app, member).await;
    let back = client.get("/users/me").await;
    let newer = TokenSpec {
        issued_at: Some(clock::now().timestamp_millis() / 1_000 + 1),
        ..Caller::Member.token()
    };
    let newer = app.client(&newer).get("/users/me").await;

    assert_eq!(before.status, 200);
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.body["email"], Caller::Member.email());
    assert_eq!(after.summary(), "404 not_found");
    assert_eq!(again.summary(), "404 not_found");
    assert_ne!(id_of::<UserId>(&back.body["id"]), member);
    assert_eq!(
        (&back.body["platformAdmin"], &back.body["tenants"]),
        (&json!(false), &json!([])),
        "claims of an old token are ignored"
    );
    assert_eq!(newer.body["tenants"][0]["role"], "member");
    let event = app.audit_event("user.delete").await;
    let before = event.get_document("before").unwrap();
    assert_eq!(before.get_str("email").unwrap(), Caller::Member.email());
    assert!(event.get_document("after").unwrap().is_empty());
}

#[tokio::test]
async fn the_last_owner_and_the_caller_cannot_be_deleted() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await.id;
    let own = app.user(Caller::Operator).await.id;

    let last = delete(&app, owner).await;
    let own_user = delete(&app, own).await;
    app.set_tenant("demo", doc! { "status": "terminated" })
        .await;
    let of_terminated_tenant = delete(&app, owner).await;

    assert_eq!(last.summary(), "409 last_owner");
    assert_eq!(own_user.summary(), "409 own_user");
    assert_eq!(of_terminated_tenant.summary(), "200");
}

#[tokio::test]
async fn concurrent_deletion_of_both_owners_leaves_one() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await.id;
    let other = app.user(Caller::Stranger).await.id;
    set(&app, other, json!({ "tenantRoles": { "demo": "owner" } })).await;

    let both = tokio::join!(delete(&app, owner), delete(&app, other));

    let found = sorted_summaries([&both.0, &both.1]);
    assert_eq!(found, ["200", "409 last_owner"]);
}

#[tokio::test]
async fn concurrent_user_edits_of_one_version_have_one_winner() {
    let app = TestApp::with_demo().await;
    let id = app.user(Caller::Stranger).await.id;
    let version = app.operator().get(format!("/users/{id}")).await;
    let rename = |n: usize| {
        app.operator()
            .patch(
                format!("/users/{id}"),
                json!({ "name": format!("Name {n}") }),
            )
            .if_match(version.etag())
    };

    let replies = send_all((0..10).map(rename)).await;
    let stale = app
        .operator()
        .delete(format!("/users/{id}"))
        .if_match(version.etag())
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
async fn concurrent_edits_of_different_fields_are_all_kept() {
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
