//! Changes, suspension, removal and restore.

use std::time::Duration;

use dezky_shared::platform::clock;

use super::*;
use crate::personas::Persona;

#[tokio::test]
async fn a_suspended_member_loses_all_rights_at_once_and_a_resume_brings_them_back() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let reads = async || app.stranger().get("/tenants/demo").await.status.as_u16();
    let before = reads().await;

    let suspended = act(&app, &ada, "/suspend").await;
    let while_suspended = reads().await;
    let again = act(&app, &ada, "/suspend").await;
    let resumed = act(&app, &ada, "/resume").await;
    let after = reads().await;
    let resumed_again = act(&app, &ada, "/resume").await;

    assert_eq!((before, while_suspended, after), (200, 404, 200));
    assert_eq!(
        (suspended.summary(), again.summary()),
        ("202".into(), "200".into())
    );
    assert_eq!(
        (resumed.summary(), resumed_again.summary()),
        ("202".into(), "200".into())
    );
    assert_eq!(suspended.body["status"], "suspended");
    assert_eq!(suspended.body["role"], "member", "brought back by a resume");
    assert!(!suspended.body["suspendedBy"].is_null());
    assert!(resumed.body["suspendedBy"].is_null());
    assert_eq!(resumed.body["status"], "pending");
    assert_eq!(
        kinds_of(&app, &ada).await,
        ["provision_member", "suspend_member", "resume_member"]
    );
    let event = app.audit_event("member.suspend").await;
    assert_eq!(
        event.get_document("after").unwrap(),
        &doc! { "status": "suspended" }
    );
}

#[tokio::test]
async fn a_removed_member_can_be_restored_until_the_purge() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let early = act(&app, &ada, "/restore").await;

    let removed = app.owner().delete(path(&ada, "")).await;
    let again = app.owner().delete(path(&ada, "")).await;
    let lost = app.stranger().get("/tenants/demo").await;
    let edit = app
        .owner()
        .patch(path(&ada, ""), json!({ "name": "B" }))
        .await;
    let suspend = act(&app, &ada, "/suspend").await;
    let sign_out = act(&app, &ada, "/force-logout").await;
    let reset = act(&app, &ada, "/reset-password").await;
    let restored = act(&app, &ada, "/restore").await;
    let back = app.stranger().get("/tenants/demo").await;

    assert_eq!(early.summary(), "409 not_removing");
    assert_eq!(
        (removed.summary(), again.summary()),
        ("202".into(), "200".into())
    );
    assert_eq!(removed.body["status"], "removing");
    assert_eq!(lost.summary(), "404 not_found");
    for rejected in [edit, suspend, sign_out, reset] {
        assert_eq!(rejected.summary(), "409 member_removing");
    }
    assert_eq!(restored.summary(), "202");
    assert_eq!(restored.body["status"], "pending");
    assert!(restored.body["purgeAt"].is_null());
    assert_eq!(back.summary(), "200");
    let jobs = app.jobs().await;
    let purge = jobs.iter().find(|job| job.kind == "remove_member").unwrap();
    let after = purge.run_at.timestamp_millis() - purge.created_at.timestamp_millis();
    assert_eq!(after, 7 * 24 * 3_600_000);
}

#[tokio::test]
async fn the_purge_is_not_cancelled_or_run_early_and_ends_the_time_to_restore() {
    let app = TestApp::start_with(app::shared_issuer(), |config| {
        config.member_purge_after = Duration::from_hours(1);
    })
    .await;
    app.demo().await;
    let ada = provisioned(&app, "ada").await;
    app.owner().delete(path(&ada, "")).await;
    let jobs = app.jobs().await;
    let purge = jobs
        .iter()
        .find(|job| job.kind == "remove_member")
        .unwrap()
        .id;
    let on_job = async |action: &str| {
        app.operator()
            .post_empty(format!("/jobs/{purge}/{action}"))
            .await
    };

    let cancelled = on_job("cancel").await;
    let requeued = on_job("requeue").await;
    let past = doc! { "purgeAt": bson::DateTime::from_millis(1) };
    app.set("members", doc! { "_id": ada.id }, past).await;
    let late = act(&app, &ada, "/restore").await;
    // The worker's clock is ahead, and it has begun.
    let now = app.state.store.now();
    let begun =
        doc! { "purgeAt": clock::later(now, Duration::from_hours(1)), "purgeStartedAt": now };
    app.set("members", doc! { "_id": ada.id }, begun).await;
    let begun = act(&app, &ada, "/restore").await;

    assert_eq!(cancelled.summary(), "409 purge_scheduled");
    assert_eq!(requeued.summary(), "409 purge_scheduled");
    assert_eq!(late.summary(), "409 purge_started");
    assert_eq!(begun.summary(), "409 purge_started");
}

#[tokio::test]
async fn a_repeated_request_begins_another_purge_only_after_one_has_failed() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    app.owner().delete(path(&ada, "")).await;
    let failed = doc! { "provisioningStatus.stalwart": "error" };
    app.set("members", doc! { "_id": ada.id }, failed).await;
    let early = app.owner().delete(path(&ada, "")).await;
    let past = doc! { "purgeAt": bson::DateTime::from_millis(1) };
    app.set("members", doc! { "_id": ada.id }, past).await;

    let repeated = app.owner().delete(path(&ada, "")).await;
    let pending = app.owner().delete(path(&ada, "")).await;

    assert_eq!(early.summary(), "200");
    assert_eq!(repeated.summary(), "202");
    assert_eq!(repeated.body["provisioningStatus"]["stalwart"], "pending");
    assert_eq!(pending.summary(), "200");
    let kinds = kinds_of(&app, &ada).await;
    let purges = kinds.iter().filter(|kind| *kind == "remove_member").count();
    assert_eq!(purges, 2);
}

#[tokio::test]
async fn a_cancelled_job_leaves_the_member_with_an_error_and_the_tenant_as_it_is() {
    let app = TestApp::with_demo().await;
    app.set_tenant("demo", doc! { "status": "active", "provisioningStatus": { "authentik": "ok", "stalwart": "ok", "ocis": "ok" } }).await;
    let ada = created(&app, "ada").await;
    let job = app.jobs().await.pop().unwrap();

    let cancelled = app
        .operator()
        .post_empty(format!("/jobs/{}/cancel", job.id))
        .await;
    let requeued = app
        .operator()
        .post_empty(format!("/jobs/{}/requeue", job.id))
        .await;

    assert_eq!(cancelled.summary(), "200");
    assert_eq!(requeued.summary(), "409 secrets_gone");
    let stored = member(&app, ada.id).await;
    assert!(stored.is_failing(), "{stored:?}");
    let health = app.operator().get("/tenants").await;
    let demo = health
        .items()
        .iter()
        .find(|tenant| tenant["slug"] == "demo")
        .unwrap();
    assert!(
        demo["health"]["reasons"]
            .as_array()
            .unwrap()
            .iter()
            .any(|reason| reason["code"] == "members_failed"),
        "{demo}"
    );
    let tenant = app.tenant("demo").await;
    assert!(tenant.provisioning_errors.authentik.is_none());
}

#[tokio::test]
async fn only_changes_of_accounts_need_a_job() {
    let app = TestApp::with_demo().await;
    let ada = provisioned(&app, "ada").await;
    let edit = async |body: Value| app.owner().patch(path(&ada, ""), body).await;

    let role = edit(json!({ "role": "admin" })).await;
    let nothing = edit(json!({ "role": "admin", "name": "Ada King", "aliases": [] })).await;
    let stale = app
        .owner()
        .patch(path(&ada, ""), json!({ "name": "B" }))
        .if_match("\"1.1\"")
        .await;
    let aliases =
        edit(json!({ "aliases": ["countess", "abuse"], "mailboxQuotaBytes": 2_000_000_000 })).await;
    let quota = edit(json!({ "mailboxQuotaBytes": null })).await;
    let name = edit(json!({ "name": "Ada Lovelace" })).await;

    assert_eq!(role.summary(), "200");
    assert!(role.body["job"].is_null());
    assert_eq!(nothing.summary(), "200");
    assert_eq!(nothing.etag(), role.etag());
    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(aliases.summary(), "202");
    assert_eq!(
        aliases.body["mailbox"]["aliases"],
        json!(["countess@demo.test", "abuse@demo.test"])
    );
    assert_eq!(aliases.body["provisioningStatus"]["stalwart"], "pending");
    assert!(quota.body["mailbox"]["quotaBytes"].is_null());
    assert_eq!(name.summary(), "202");
    assert!(
        app.stranger()
            .patch("/tenants/demo", json!({ "industry": "x" }))
            .await
            .status
            .is_success(),
        "an admin now"
    );
    // Jobs that wait are joined.
    assert_eq!(kinds_of(&app, &ada).await, ["provision_member"]);
}

#[tokio::test]
async fn the_last_owner_and_ones_own_account_stay() {
    let app = TestApp::with_demo().await;
    let owner = app.user(Caller::Owner).await;
    let body = json!({ "email": owner.email, "name": "Owner", "role": "owner", "mailbox": false });
    let reply = app.operator().post(USERS, body).await;
    let id: MemberId = app::id_of(&reply.body["id"]);
    let me = link(
        &app,
        id,
        &owner.authentik_subject_id,
        AccountOrigin::Adopted,
    )
    .await;

    for (action, by_operator) in [("/suspend", "409 last_owner"), ("/force-logout", "202")] {
        assert_eq!(act(&app, &me, action).await.summary(), "409 own_account");
        let reply = app.operator().post_empty(path(&me, action)).await;
        assert_eq!(reply.summary(), by_operator, "{action}");
    }
    let removed = app.owner().delete(path(&me, "")).await;
    let removed_by_operator = app.operator().delete(path(&me, "")).await;
    let resigned = app
        .owner()
        .patch(path(&me, ""), json!({ "role": "member" }))
        .await;

    assert_eq!(removed.summary(), "409 own_account");
    assert_eq!(removed_by_operator.summary(), "409 last_owner");
    assert_eq!(resigned.summary(), "409 last_owner");
    assert_eq!(member(&app, me.id).await.status, MemberStatus::Active);
}

#[tokio::test]
async fn admins_do_not_manage_owners_by_any_action() {
    let app = TestApp::with_personas().await;
    let boss = json!({ "localPart": "boss", "name": "Boss", "role": "owner" });
    let reply = app.client(Persona::Owner).post(USERS, boss).await;
    let boss = member(&app, app::id_of(&reply.body["id"])).await;
    let admin = app.client(Persona::Admin);

    for action in [
        "/suspend",
        "/resume",
        "/force-logout",
        "/reset-password",
        "/restore",
    ] {
        let reply = admin.post_empty(path(&boss, action)).await;
        assert_eq!(reply.summary(), "403 forbidden", "{action}");
    }
    assert_eq!(
        admin.delete(path(&boss, "")).await.summary(),
        "403 forbidden"
    );
    let demoted = admin
        .patch(path(&boss, ""), json!({ "role": "member" }))
        .await;
    assert_eq!(demoted.summary(), "403 forbidden");
    assert_eq!(kinds_of(&app, &boss).await, ["provision_member"]);
}

#[tokio::test]
async fn callers_of_another_tenant_find_no_member() {
    let app = TestApp::with_personas().await;
    let reply = app.client(Persona::Owner).post(USERS, new("ada")).await;
    let ada = member(&app, app::id_of(&reply.body["id"])).await;
    let elsewhere = |action: &str| format!("/tenants/other/users/{}{action}", ada.id);

    for persona in [Persona::OtherOwner, Persona::OtherAdmin] {
        let client = app.client(persona);
        for action in [
            "/suspend",
            "/resume",
            "/force-logout",
            "/reset-password",
            "/restore",
        ] {
            assert_eq!(
                client.post_empty(path(&ada, action)).await.summary(),
                "404 not_found"
            );
            assert_eq!(
                client.post_empty(elsewhere(action)).await.summary(),
                "404 not_found"
            );
        }
        for path in [path(&ada, ""), elsewhere("")] {
            assert_eq!(client.get(&path).await.summary(), "404 not_found");
            assert_eq!(client.delete(&path).await.summary(), "404 not_found");
            let patched = client.patch(&path, json!({ "name": "B" })).await;
            assert_eq!(patched.summary(), "404 not_found");
        }
    }
    assert_eq!(member(&app, ada.id).await, ada);
}

#[tokio::test]
async fn a_domain_with_addresses_of_members_is_not_removed() {
    let app = TestApp::with_demo().await;
    let body = json!({ "name": "second.test" });
    app.operator().post("/tenants/demo/domains", body).await;
    let ada = json!({ "localPart": "ada", "name": "A", "role": "member", "aliases": ["ada@second.test"] });
    let ada = create(&app, ada).await;
    let ada = member(&app, app::id_of(&ada.body["id"])).await;
    let remove = async || {
        app.owner()
            .delete("/tenants/demo/domains/second.test")
            .await
    };

    let used = remove().await;
    app.owner()
        .patch(path(&ada, ""), json!({ "aliases": [] }))
        .await;
    let free = remove().await;
    let late = app
        .owner()
        .patch(path(&ada, ""), json!({ "aliases": ["x@second.test"] }))
        .await;

    assert_eq!(used.summary(), "409 domain_in_use");
    assert_eq!(free.summary(), "202");
    assert_eq!(late.summary(), "409 domain_removing");
}
