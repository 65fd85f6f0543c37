//! Team of a partner: visibility and management.

mod by_operators;
mod consent;
mod invitations;
mod waiting;

use bson::{DateTime, doc};
use dezky_shared::id::UserId;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{TestApp, id_of},
    client::Reply,
    personas::Persona,
};

impl TestApp {
    async fn team(&self, persona: Persona) -> Reply {
        self.client(persona).get("/partner/team").await
    }

    async fn set_access_level(&self, by: Persona, member: UserId, level: &str) -> Reply {
        let body = json!({ "accessLevel": level });
        self.client(by)
            .patch(format!("/partner/team/{member}"), body)
            .await
    }

    async fn remove_member(&self, by: Persona, member: UserId) -> Reply {
        self.client(by)
            .delete(format!("/partner/team/{member}"))
            .await
    }
}

/// Access levels of the listed members.
fn access_levels(reply: &Reply) -> Vec<&str> {
    let items = reply.items().iter();
    items
        .map(|item| item["accessLevel"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn staff_list_their_own_team_with_mfa_status() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await.id;
    let mfa = doc! { "devices": 2, "lookedUpAt": DateTime::from_millis(1_795_339_800_000) };
    app.set_user(manager, doc! { "mfa": mfa }).await;

    let nordic = app.team(Persona::PartnerReadOnly).await;
    let elsewhere = app.team(Persona::OtherPartner).await;

    assert_eq!(nordic.status, StatusCode::OK, "{nordic:?}");
    assert_eq!(
        access_levels(&nordic),
        ["owner", "manager", "support", "read-only"]
    );
    assert_eq!(access_levels(&elsewhere), ["owner"]);
    let shown = &nordic.body["items"][1];
    assert_eq!(shown["id"], json!(manager.to_string()));
    assert_eq!(shown["email"], "partnermanager@people.test");
    assert_eq!(shown["status"], "active");
    assert_eq!(
        shown["mfa"],
        json!({ "devices": 2, "enrolled": "yes", "lookedUpAt": "2026-11-22T09:30:00.000Z" })
    );
    assert_eq!(nordic.body["items"][0]["mfa"], Value::Null);
}

#[tokio::test]
async fn a_team_list_is_paginated() {
    let app = TestApp::with_personas().await;

    let owner = app.client(Persona::PartnerOwner);

    let first = owner.get("/partner/team?limit=3").await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let path = format!("/partner/team?limit=3&cursor={cursor}");
    let second = owner.get(path).await;

    assert_eq!(access_levels(&first), ["owner", "manager", "support"]);
    assert_eq!(access_levels(&second), ["read-only"]);
    assert_eq!(second.body["nextCursor"], Value::Null);
}

#[tokio::test]
async fn an_access_level_change_applies_to_the_next_request() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await;

    let patched = app
        .set_access_level(Persona::PartnerOwner, manager.id, "read-only")
        .await;
    let suspended = app
        .client(Persona::PartnerManager)
        .post_empty("/tenants/demo/suspend")
        .await;

    assert_eq!(patched.status, StatusCode::OK, "{patched:?}");
    assert_eq!(patched.body["accessLevel"], "read-only");
    assert_eq!(patched.body["revision"], json!(manager.revision + 1));
    assert_eq!(suspended.summary(), "403 forbidden");
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.update");
}

#[tokio::test]
async fn setting_the_current_access_level_changes_nothing() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await;
    let events = app.count("audit_events").await;

    let reply = app
        .set_access_level(Persona::PartnerOwner, manager.id, "manager")
        .await;

    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(app.user(Persona::PartnerManager).await, manager);
    assert_eq!(app.count("audit_events").await, events);
}

#[tokio::test]
async fn a_stale_if_match_rejects_an_access_level_change() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await;
    let path = format!("/partner/team/{}", manager.id);

    let stale = app
        .client(Persona::PartnerOwner)
        .patch(path, json!({ "accessLevel": "support" }))
        .if_match("\"0.0\"")
        .await;

    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(app.user(Persona::PartnerManager).await, manager);
}

#[tokio::test]
async fn a_removed_member_loses_access_on_the_next_request() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await.id;

    let removed = app.remove_member(Persona::PartnerOwner, manager).await;
    let team = app.team(Persona::PartnerManager).await;
    let tenant = app
        .client(Persona::PartnerManager)
        .get("/tenants/demo")
        .await;

    assert_eq!(removed.status, StatusCode::ACCEPTED, "{removed:?}");
    assert_eq!(removed.body["accessLevel"], "manager");
    let job = app
        .state
        .db
        .jobs
        .find(id_of(&removed.body["job"]["id"]))
        .await;
    let job = job.unwrap().unwrap();
    assert_eq!(job.kind, "sync_partner_team");
    let href = format!("/jobs/{}", job.id);
    assert_eq!(removed.header("location"), Some(href.as_str()));
    assert_eq!(team.summary(), "403 forbidden");
    assert_eq!(tenant.summary(), "404 not_found");
    assert_eq!(
        access_levels(&app.team(Persona::PartnerOwner).await).len(),
        3
    );
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.remove");
}

#[tokio::test]
async fn removing_oneself_returns_202_without_waiting_for_the_job() {
    let app = TestApp::with_personas().await;
    let second = app.user(Persona::PartnerManager).await.id;
    app.set_user(second, doc! { "partnerRole": "owner" }).await;

    let removed = app
        .client(Persona::PartnerManager)
        .delete(format!("/partner/team/{second}"))
        .wait(25)
        .await;

    assert_eq!(removed.status, StatusCode::ACCEPTED, "{removed:?}");
    assert_eq!(
        app.team(Persona::PartnerManager).await.summary(),
        "403 forbidden"
    );
}

#[tokio::test]
async fn another_partners_team_cannot_be_changed() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await;

    let demoted = app
        .set_access_level(Persona::OtherPartner, manager.id, "support")
        .await;
    let removed = app.remove_member(Persona::OtherPartner, manager.id).await;

    assert_eq!(demoted.summary(), "404 not_found");
    assert_eq!(removed.summary(), "404 not_found");
    assert_eq!(app.user(Persona::PartnerManager).await, manager);
}

#[tokio::test]
async fn a_partner_keeps_its_last_owner() {
    let app = TestApp::with_personas().await;
    let owner = app.user(Persona::PartnerOwner).await;

    let demoted = app
        .set_access_level(Persona::PartnerOwner, owner.id, "manager")
        .await;
    let removed = app.remove_member(Persona::PartnerOwner, owner.id).await;

    assert_eq!(demoted.summary(), "409 last_owner");
    assert_eq!(removed.summary(), "409 last_owner");
    assert_eq!(app.user(Persona::PartnerOwner).await, owner);
}

#[tokio::test]
async fn two_partner_owners_removing_each_other_leave_one() {
    let app = TestApp::with_personas().await;
    let second = Persona::PartnerManager;
    for _ in 0..10 {
        for persona in [Persona::PartnerOwner, second] {
            let back = app.user(persona).await.id;
            let partner = app.partner_named("nordic").await;
            let owner = doc! { "partnerId": partner, "partnerRole": "owner" };
            app.set_user(back, owner).await;
        }
        let ids = [
            app.user(Persona::PartnerOwner).await.id,
            app.user(second).await.id,
        ];

        let replies = tokio::join!(
            app.remove_member(Persona::PartnerOwner, ids[1]),
            app.set_access_level(second, ids[0], "support"),
        );

        let mut found = [replies.0.status.as_u16(), replies.1.status.as_u16()];
        found.sort_unstable();
        // The second request comes from a former owner, or targets the last one.
        assert!(found[0] < 300 && found[1] >= 400, "{replies:?}");
        let partner = app.partner_named("nordic").await;
        let owners = doc! { "partnerId": partner, "partnerRole": "owner" };
        let owners = app.collection("users").count_documents(owners).await;
        assert_eq!(owners.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_team_refresh_is_limited_to_once_per_minute() {
    let app = TestApp::with_personas().await;
    let owner = app.user(Persona::PartnerOwner).await.id;
    let client = app.client(Persona::PartnerOwner);
    let refresh = async || client.post_empty("/partner/team/refresh").await;

    let first = refresh().await;
    let second = refresh().await;
    let now = app.state.store.now();
    let mfa = doc! { "devices": 0, "lookedUpAt": now };
    app.set_user(owner, doc! { "mfa": mfa }).await;
    let too_soon = refresh().await;
    let long_ago = DateTime::from_millis(now.timestamp_millis() - 61_000);
    let mfa = doc! { "devices": 0, "lookedUpAt": long_ago };
    app.set_user(owner, doc! { "mfa": mfa }).await;
    let later = refresh().await;

    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    assert_eq!(second.body["job"]["id"], first.body["job"]["id"]);
    assert_eq!(too_soon.summary(), "429 team_refresh_too_soon");
    let seconds: u32 = too_soon.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(later.status, StatusCode::ACCEPTED, "{later:?}");
}

#[tokio::test]
async fn team_jobs_are_visible_to_staff_and_operators_only() {
    let app = TestApp::with_personas().await;
    let refresh = app
        .client(Persona::PartnerOwner)
        .post_empty("/partner/team/refresh")
        .await;
    let href = refresh.header("location").unwrap();

    for (persona, expected) in [
        (Persona::PartnerReadOnly, 200),
        (Persona::Operator, 200),
        (Persona::OtherPartner, 404),
        (Persona::FormerPartner, 404),
        (Persona::Owner, 404),
        (Persona::Stranger, 404),
    ] {
        let reply = app.client(persona).get(href).await;

        assert_eq!(reply.status.as_u16(), expected, "{persona:?}");
    }
}

#[tokio::test]
async fn a_partner_group_in_a_token_grants_no_tenant_membership() {
    let app = TestApp::with_personas().await;
    let mut token = Persona::Stranger.token().unwrap();
    token.groups = Some(vec!["partner:demo".to_owned(), "partner:nordic".to_owned()]);

    let me = app.client(&token).get("/users/me").await;

    assert_eq!(me.status, StatusCode::OK, "{me:?}");
    assert_eq!(me.body["tenantIds"], json!([]));
    assert_eq!(me.body["partnerId"], Value::Null);
    let partner = app.operator().post_empty("/tenants");
    let partner = partner.json(json!({ "slug": "partner:demo", "name": "Demo" }));
    assert_eq!(partner.await.summary(), "422 validation_failed");
}
