//! A partner's team: who may change it, and what is told to whom.

mod by_operators;
mod invitations;
mod waiting;

use bson::{DateTime, Document, doc};
use dezky_shared::{id::UserId, user::User};
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{Call, Reply, TestApp, id_of},
    everyone::Who,
};

impl TestApp {
    /// The person of this kind, as stored.
    async fn who(&self, who: Who) -> User {
        let subject = who.token().unwrap().subject;
        let found = self.state.users.find_by_subject(&subject).await;
        found.unwrap().unwrap()
    }

    fn as_who<'a>(&'a self, call: Call<'a>, who: Who) -> Call<'a> {
        call.token(&self.token(&who.token().unwrap()))
    }

    async fn team(&self, who: Who) -> Reply {
        self.as_who(self.get("/partner/team"), who).send().await
    }

    async fn set_level(&self, by: Who, of: UserId, level: &str) -> Reply {
        let call = self.patch(&format!("/partner/team/{of}"));
        let call = call.json(&json!({ "accessLevel": level }));
        self.as_who(call, by).send().await
    }

    async fn let_go(&self, by: Who, of: UserId) -> Reply {
        let call = self.delete(&format!("/partner/team/{of}"));
        self.as_who(call, by).send().await
    }

    async fn set_user(&self, id: UserId, set: Document) {
        let users = self.collection("users");
        let set = doc! { "$set": set };
        users.update_one(doc! { "_id": id }, set).await.unwrap();
    }
}

/// The levels of those on the list.
fn levels(reply: &Reply) -> Vec<&str> {
    let items = reply.body["items"].as_array().unwrap().iter();
    items
        .map(|item| item["accessLevel"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_team_is_listed_for_its_own_with_what_is_known_of_each() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await.id;
    let look = doc! { "devices": 2, "lookedUpAt": DateTime::from_millis(1_795_339_800_000) };
    app.set_user(manager, doc! { "mfa": look }).await;

    let nordic = app.team(Who::PartnerReadOnly).await;
    let elsewhere = app.team(Who::OtherPartner).await;

    assert_eq!(nordic.status, StatusCode::OK, "{nordic:?}");
    assert_eq!(
        levels(&nordic),
        ["owner", "manager", "support", "read-only"]
    );
    assert_eq!(levels(&elsewhere), ["owner"]);
    let shown = &nordic.body["items"][1];
    assert_eq!(shown["id"], json!(manager.to_string()));
    assert_eq!(shown["email"], "partnermanager@people.test");
    assert_eq!(shown["status"], "active");
    assert_eq!(
        shown["mfa"],
        json!({ "devices": 2, "lookedUpAt": "2026-11-22T09:30:00.000Z" })
    );
    assert_eq!(nordic.body["items"][0]["mfa"], Value::Null);
}

#[tokio::test]
async fn a_team_is_listed_in_pages() {
    let app = TestApp::with_everyone().await;

    let first = app
        .as_who(app.get("/partner/team?limit=3"), Who::PartnerOwner)
        .send()
        .await;
    let cursor = first.body["nextCursor"].as_str().unwrap();
    let path = format!("/partner/team?limit=3&cursor={cursor}");
    let second = app.as_who(app.get(&path), Who::PartnerOwner).send().await;

    assert_eq!(levels(&first), ["owner", "manager", "support"]);
    assert_eq!(levels(&second), ["read-only"]);
    assert_eq!(second.body["nextCursor"], Value::Null);
}

#[tokio::test]
async fn another_level_counts_on_the_very_next_request() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await;

    let patched = app
        .set_level(Who::PartnerOwner, manager.id, "read-only")
        .await;
    let suspend = app.post("/tenants/demo/suspend");
    let suspended = app.as_who(suspend, Who::PartnerManager).send().await;

    assert_eq!(patched.status, StatusCode::OK, "{patched:?}");
    assert_eq!(patched.body["accessLevel"], "read-only");
    assert_eq!(patched.body["revision"], json!(manager.revision + 1));
    assert_eq!(suspended.summary(), "403 forbidden");
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.update");
}

#[tokio::test]
async fn the_same_level_again_changes_nothing() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await;
    let events = app.count("audit_events").await;

    let reply = app
        .set_level(Who::PartnerOwner, manager.id, "manager")
        .await;

    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(app.who(Who::PartnerManager).await, manager);
    assert_eq!(app.count("audit_events").await, events);
}

#[tokio::test]
async fn a_change_to_a_version_that_is_not_meant_is_refused() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await;
    let call = app.patch(&format!("/partner/team/{}", manager.id));
    let call = call.json(&json!({ "accessLevel": "support" }));

    let stale = app
        .as_who(call.header("if-match", "\"0.0\""), Who::PartnerOwner)
        .send()
        .await;

    assert_eq!(stale.summary(), "412 precondition_failed");
    assert_eq!(app.who(Who::PartnerManager).await, manager);
}

#[tokio::test]
async fn whoever_is_removed_may_do_nothing_from_that_moment_on() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await.id;

    let removed = app.let_go(Who::PartnerOwner, manager).await;
    let team = app.team(Who::PartnerManager).await;
    let show = app.get("/tenants/demo");
    let tenant = app.as_who(show, Who::PartnerManager).send().await;

    assert_eq!(removed.status, StatusCode::ACCEPTED, "{removed:?}");
    assert_eq!(removed.body["accessLevel"], "manager");
    let job = app.state.jobs.find(id_of(&removed.body["job"]["id"])).await;
    let job = job.unwrap().unwrap();
    assert_eq!(job.kind, "sync_partner_team");
    let href = format!("/jobs/{}", job.id);
    assert_eq!(removed.header("location"), Some(href.as_str()));
    assert_eq!(team.summary(), "403 forbidden");
    assert_eq!(tenant.summary(), "404 not_found");
    assert_eq!(levels(&app.team(Who::PartnerOwner).await).len(), 3);
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.remove");
}

#[tokio::test]
async fn whoever_removes_themselves_is_answered_though_they_may_not_wait_for_the_job() {
    let app = TestApp::with_everyone().await;
    let second = app.who(Who::PartnerManager).await.id;
    app.set_user(second, doc! { "partnerRole": "owner" }).await;
    let call = app.delete(&format!("/partner/team/{second}"));

    let removed = app
        .as_who(call.header("prefer", "wait=25"), Who::PartnerManager)
        .send()
        .await;

    assert_eq!(removed.status, StatusCode::ACCEPTED, "{removed:?}");
    assert_eq!(
        app.team(Who::PartnerManager).await.summary(),
        "403 forbidden"
    );
}

#[tokio::test]
async fn the_team_of_another_partner_is_out_of_reach() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await;

    let demoted = app
        .set_level(Who::OtherPartner, manager.id, "support")
        .await;
    let removed = app.let_go(Who::OtherPartner, manager.id).await;

    assert_eq!(demoted.summary(), "404 not_found");
    assert_eq!(removed.summary(), "404 not_found");
    assert_eq!(app.who(Who::PartnerManager).await, manager);
}

#[tokio::test]
async fn a_partner_keeps_its_last_owner() {
    let app = TestApp::with_everyone().await;
    let owner = app.who(Who::PartnerOwner).await;

    let demoted = app.set_level(Who::PartnerOwner, owner.id, "manager").await;
    let removed = app.let_go(Who::PartnerOwner, owner.id).await;

    assert_eq!(demoted.summary(), "409 last_owner");
    assert_eq!(removed.summary(), "409 last_owner");
    assert_eq!(app.who(Who::PartnerOwner).await, owner);
}

#[tokio::test]
async fn of_two_owners_who_remove_each_other_one_stays() {
    let app = TestApp::with_everyone().await;
    let second = Who::PartnerManager;
    for _ in 0..10 {
        for who in [Who::PartnerOwner, second] {
            let back = app.who(who).await.id;
            let partner = app.partner_named("nordic").await;
            let owner = doc! { "partnerId": partner, "partnerRole": "owner" };
            app.set_user(back, owner).await;
        }
        let ids = [
            app.who(Who::PartnerOwner).await.id,
            app.who(second).await.id,
        ];

        let replies = tokio::join!(
            app.let_go(Who::PartnerOwner, ids[1]),
            app.set_level(second, ids[0], "support"),
        );

        let mut found = [replies.0.status.as_u16(), replies.1.status.as_u16()];
        found.sort_unstable();
        // Whoever comes second is no owner any more, or would take away the last one.
        assert!(found[0] < 300 && found[1] >= 400, "{replies:?}");
        let partner = app.partner_named("nordic").await;
        let owners = doc! { "partnerId": partner, "partnerRole": "owner" };
        let owners = app.collection("users").count_documents(owners).await;
        assert_eq!(owners.unwrap(), 1);
    }
}

#[tokio::test]
async fn a_look_at_the_team_is_asked_for_once_a_minute() {
    let app = TestApp::with_everyone().await;
    let owner = app.who(Who::PartnerOwner).await.id;
    let refresh = async || {
        let call = app.post("/partner/team/refresh");
        app.as_who(call, Who::PartnerOwner).send().await
    };

    let first = refresh().await;
    let second = refresh().await;
    let now = app.state.store.now();
    let look = doc! { "devices": 0, "lookedUpAt": now };
    app.set_user(owner, doc! { "mfa": look }).await;
    let too_soon = refresh().await;
    let long_ago = DateTime::from_millis(now.timestamp_millis() - 61_000);
    let look = doc! { "devices": 0, "lookedUpAt": long_ago };
    app.set_user(owner, doc! { "mfa": look }).await;
    let later = refresh().await;

    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    assert_eq!(second.body["job"]["id"], first.body["job"]["id"]);
    assert_eq!(too_soon.summary(), "429 team_refresh_too_soon");
    let seconds: u32 = too_soon.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(later.status, StatusCode::ACCEPTED, "{later:?}");
}

#[tokio::test]
async fn the_jobs_of_a_team_are_for_its_own_and_operators() {
    let app = TestApp::with_everyone().await;
    let call = app.post("/partner/team/refresh");
    let asked = app.as_who(call, Who::PartnerOwner).send().await;
    let href = asked.header("location").unwrap();

    for (who, expected) in [
        (Who::PartnerReadOnly, 200),
        (Who::Operator, 200),
        (Who::OtherPartner, 404),
        (Who::FormerPartner, 404),
        (Who::Owner, 404),
        (Who::Stranger, 404),
    ] {
        let reply = app.as_who(app.get(href), who).send().await;

        assert_eq!(reply.status.as_u16(), expected, "{who:?}");
    }
}

#[tokio::test]
async fn a_group_of_a_partner_in_a_token_is_no_tenant() {
    let app = TestApp::with_everyone().await;
    let mut token = Who::Stranger.token().unwrap();
    token.groups = Some(vec!["partner:demo".to_owned(), "partner:nordic".to_owned()]);

    let me = app.get("/users/me").token(&app.token(&token)).send().await;

    assert_eq!(me.status, StatusCode::OK, "{me:?}");
    assert_eq!(me.body["tenantIds"], json!([]));
    assert_eq!(me.body["partnerId"], Value::Null);
    let partner = app
        .post("/tenants")
        .by(dezky_sim::callers::Caller::Operator);
    let partner = partner.json(&json!({ "slug": "partner:demo", "name": "Demo" }));
    assert_eq!(partner.send().await.summary(), "422 validation_failed");
}
