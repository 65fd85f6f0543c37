//! Inviting to a team, and the link that is shown once.

use std::fmt::Write as _;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::{InvitationId, JobId, PartnerId, TenantId, UserId},
    invitation::{Invitation, InvitationState, SealedLink},
    platform::clock,
    store::to_document,
    user::User,
};
use futures::TryStreamExt as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp, id_of},
    everyone::Who,
};

const LINK: &str = "https://auth.people.test/if/flow/recovery/?flow_token=0123456789abcdef";
const TOKEN: &str = "0123456789abcdef";

impl TestApp {
    pub(super) async fn partner_named(&self, slug: &str) -> PartnerId {
        let found = self.state.partners.find_by_slug(slug).await;
        found.unwrap().unwrap().id
    }

    async fn invite(&self, by: Who, email: &str) -> Reply {
        let call = self.post("/partner/team");
        let call = call.json(&json!({ "email": email, "name": "Nea", "accessLevel": "support" }));
        self.as_who(call, by).send().await
    }

    async fn invitation(&self, invited: &Reply) -> Option<Invitation> {
        let id = id_of(&invited.body["id"]);
        self.state.invitations.find(id).await.unwrap()
    }

    /// As the invitation's job does: for somebody whose account is new, with a link.
    async fn carry_out(&self, invited: &Reply) -> UserId {
        let id: InvitationId = id_of(&invited.body["id"]);
        let job_id: JobId = id_of(&invited.body["job"]["id"]);
        let invitation = self.state.invitations.find(id).await.unwrap().unwrap();
        let user = User {
            partner_id: Some(invitation.partner_id),
            partner_role: Some(invitation.role),
            ..User::first_seen(&id.to_string(), "nea@people.test", "Nea", clock::now())
        };
        let users = self.state.store.collection::<User>("users");
        users.insert_one(&user).await.unwrap();
        let sealed = self.state.sealing_keys.encrypt(job_id, &LINK).unwrap();
        let link = to_document(&SealedLink { sealed, job_id }).unwrap();
        self.set_invitation(
            id,
            doc! { "state": "ready", "link": link, "userId": user.id },
        )
        .await;
        user.id
    }

    async fn set_invitation(&self, id: InvitationId, set: Document) {
        let invitations = self.collection("invitations");
        let set = doc! { "$set": set };
        invitations
            .update_one(doc! { "_id": id }, set)
            .await
            .unwrap();
    }

    async fn show_link(&self, by: Who, invited: &Reply) -> Reply {
        let call = self.post(invited.body["linkHref"].as_str().unwrap());
        self.as_who(call, by).send().await
    }

    /// All that the database holds.
    async fn dump(&self) -> String {
        let names = self.state.store.database().list_collection_names();
        let mut dump = String::new();
        for name in names.await.unwrap() {
            let found = self.collection(&name).find(doc! {}).await.unwrap();
            let documents: Vec<Document> = found.try_collect().await.unwrap();
            writeln!(dump, "{name}: {documents:?}").unwrap();
        }
        dump
    }
}

#[tokio::test]
async fn an_invitation_is_answered_with_its_job_and_stored() {
    let app = TestApp::with_everyone().await;
    let owner = app.who(Who::PartnerOwner).await;

    let reply = app.invite(Who::PartnerOwner, "Nea@People.test").await;

    assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply:?}");
    assert_eq!(reply.body["email"], "nea@people.test");
    assert_eq!(reply.body["accessLevel"], "support");
    let job = app.state.jobs.find(id_of(&reply.body["job"]["id"])).await;
    let job = job.unwrap().unwrap();
    assert_eq!(job.kind, "invite_partner_member");
    assert_eq!(job.partner_id(), owner.partner_id);
    let invitation = app.invitation(&reply).await.unwrap();
    assert_eq!(invitation.state, InvitationState::Pending);
    assert_eq!(invitation.invited_by, owner.id);
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.invite");
}

#[tokio::test]
async fn bad_values_of_an_invitation_are_told_together() {
    let app = TestApp::with_everyone().await;
    let call = app.post("/partner/team");
    let call = call.json(&json!({ "email": "no", "name": " ", "accessLevel": "admin" }));

    let reply = app.as_who(call, Who::PartnerOwner).send().await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let errors = reply.body["errors"].as_array().unwrap().iter();
    let pointers: Vec<&Value> = errors.map(|error| &error["pointer"]).collect();
    assert_eq!(pointers, ["/email", "/name", "/accessLevel"]);
    assert_eq!(app.count("invitations").await, 0);
}

#[tokio::test]
async fn an_operator_invites_the_first_owner_of_a_partner() {
    let app = TestApp::with_everyone().await;
    let partner = app.insert_partner("fresh", "active").await;
    let body = json!({ "email": "first@people.test", "name": "First", "accessLevel": "owner" });
    let invite = async |slug: &str| {
        let call = app.post(&format!("/partners/{slug}/team")).json(&body);
        app.as_who(call, Who::Operator).send().await
    };

    let invited = invite("fresh").await;
    let former = invite("former").await;
    let nobody = invite("nobody").await;

    assert_eq!(invited.status, StatusCode::ACCEPTED, "{invited:?}");
    let invitation = app.invitation(&invited).await.unwrap();
    assert_eq!(invitation.partner_id, partner);
    assert_eq!(former.summary(), "409 partner_terminated");
    assert_eq!(nobody.summary(), "404 not_found");
    app.carry_out(&invited).await;
    let shown = app.show_link(Who::Operator, &invited).await;
    assert_eq!(shown.body["link"], LINK);
}

#[tokio::test]
async fn inviting_again_takes_back_the_earlier_invitation() {
    let app = TestApp::with_everyone().await;
    let first = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&first).await;

    let second = app.invite(Who::PartnerOwner, "nea@people.test").await;
    let elsewhere = app.invite(Who::OtherPartner, "nea@people.test").await;

    assert_eq!(app.invitation(&first).await, None);
    assert!(app.invitation(&second).await.is_some());
    assert!(app.invitation(&elsewhere).await.is_some());
    let shown = app.show_link(Who::PartnerOwner, &first).await;
    assert_eq!(shown.summary(), "404 not_found");
}

#[tokio::test]
async fn removing_somebody_takes_back_their_invitation_and_its_link() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "other@people.test").await;
    let user = app.carry_out(&invited).await;
    let nordic = app.partner_named("nordic").await;
    app.set_user(user, doc! { "partnerId": nordic, "partnerRole": "support" })
        .await;

    let removed = app.let_go(Who::PartnerOwner, user).await;

    assert_eq!(removed.status, StatusCode::ACCEPTED, "{removed:?}");
    assert_eq!(removed.body["status"], "invited");
    let shown = app.show_link(Who::PartnerOwner, &invited).await;
    assert_eq!(shown.summary(), "404 not_found");
}

#[tokio::test]
async fn a_link_is_shown_once_to_whoever_invited_and_kept_nowhere() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&invited).await;

    for stranger in [
        Who::PartnerManager,
        Who::OtherPartner,
        Who::Operator,
        Who::Stranger,
    ] {
        let reply = app.show_link(stranger, &invited).await;
        assert_eq!(reply.summary(), "404 not_found", "{stranger:?}");
    }
    let shown = app.show_link(Who::PartnerOwner, &invited).await;
    let again = app.show_link(Who::PartnerOwner, &invited).await;

    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    assert_eq!(shown.body["link"], LINK);
    assert_eq!(again.summary(), "410 link_already_shown");
    assert_eq!(app.invitation(&invited).await.unwrap().link, None);
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.link");
    let dump = app.dump().await;
    assert!(dump.contains("nea@people.test"));
    assert!(!dump.contains(TOKEN), "{dump}");
}

#[tokio::test]
async fn a_repeated_request_for_a_link_is_told_that_it_was_shown() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&invited).await;
    let ask = async || {
        let call = app.post(invited.body["linkHref"].as_str().unwrap());
        let call = call.header("idempotency-key", "once");
        app.as_who(call, Who::PartnerOwner).send().await
    };

    let shown = ask().await;
    let replayed = ask().await;

    assert_eq!(shown.body["link"], LINK);
    assert_eq!(replayed.status, StatusCode::OK, "{replayed:?}");
    assert_eq!(replayed.header("idempotency-replayed"), Some("true"));
    assert_eq!(replayed.body["link"], Value::Null);
    assert_eq!(replayed.body["secretAlreadyShown"], true);
    assert!(!app.dump().await.contains(TOKEN));
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_is_shown_the_link() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&invited).await;

    let asked = (0..8).map(|_| app.show_link(Who::PartnerOwner, &invited));
    let replies = futures::future::join_all(asked).await;

    let shown = replies.iter().filter(|reply| reply.body["link"] == LINK);
    assert_eq!(shown.count(), 1, "{replies:?}");
    let refused = replies.iter().filter(|reply| reply.status == 410);
    assert_eq!(refused.count(), 7, "{replies:?}");
}

#[tokio::test]
async fn whoever_may_invite_no_more_is_shown_no_link() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&invited).await;
    let owner = app.who(Who::PartnerOwner).await.id;
    app.set_user(owner, doc! { "partnerRole": "manager" }).await;

    let reply = app.show_link(Who::PartnerOwner, &invited).await;

    assert_eq!(reply.summary(), "404 not_found");
}

#[tokio::test]
async fn an_invitation_without_a_link_says_why() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    let id = id_of(&invited.body["id"]);

    let pending = app.show_link(Who::PartnerOwner, &invited).await;
    app.carry_out(&invited).await;
    app.set_invitation(id, doc! { "state": "noLink" }).await;
    let not_needed = app.show_link(Who::PartnerOwner, &invited).await;
    let past = DateTime::from_millis(app.state.store.now().timestamp_millis() - 1);
    app.set_invitation(id, doc! { "state": "ready", "expireAt": past })
        .await;
    let over = app.show_link(Who::PartnerOwner, &invited).await;

    assert_eq!(pending.summary(), "409 link_not_ready");
    assert_eq!(not_needed.summary(), "409 link_not_needed");
    assert_eq!(over.summary(), "404 not_found");
}

#[tokio::test]
async fn without_a_key_nobody_is_invited_and_a_link_stays_where_it_is() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&invited).await;
    let keyless = app.without_sealing_keys();

    let shown = keyless.show_link(Who::PartnerOwner, &invited).await;
    let refused = keyless.invite(Who::PartnerOwner, "new@people.test").await;

    assert_eq!(shown.summary(), "503 sealing_not_configured");
    assert_eq!(refused.summary(), "503 sealing_not_configured");
    let kept = keyless.invitation(&invited).await.unwrap();
    assert_eq!(kept.state, InvitationState::Ready);
}

#[tokio::test]
async fn a_full_team_takes_nobody_on() {
    let app = TestApp::with_everyone().await;
    let nordic = app.partner_named("nordic").await;
    let team = app
        .collection("users")
        .count_documents(doc! { "partnerId": nordic })
        .await
        .unwrap();
    let people = (team..200).map(|n| {
        let mut user = User::first_seen(&n.to_string(), "x@people.test", "X", clock::now());
        user.partner_id = Some(nordic);
        user
    });
    let users = app.state.store.collection::<User>("users");
    users.insert_many(people).await.unwrap();

    let reply = app.invite(Who::PartnerOwner, "nea@people.test").await;

    assert_eq!(reply.summary(), "409 team_full");
    assert_eq!(app.count("invitations").await, 0);
}

#[tokio::test]
async fn a_link_to_an_account_that_more_depends_on_by_now_is_shown_to_nobody() {
    let place = doc! {
        "tenantId": TenantId::new(), "role": "owner", "source": "local", "changedAt": clock::now(),
    };
    let later = [
        doc! { "partnerId": PartnerId::new() },
        doc! { "platformAdmin": true },
        doc! { "memberships": [place] },
        doc! { "lastSeenAt": clock::now() },
    ];
    for set in later {
        let app = TestApp::with_everyone().await;
        let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
        let user = app.carry_out(&invited).await;
        app.set_user(user, set.clone()).await;

        let reply = app.show_link(Who::PartnerOwner, &invited).await;

        assert_eq!(reply.summary(), "409 link_not_needed", "{set}");
        let kept = app.invitation(&invited).await.unwrap();
        assert_eq!((kept.state, kept.link), (InvitationState::NoLink, None));
    }
}

#[tokio::test]
async fn whoever_may_invite_no_more_is_answered_no_repeated_request() {
    let app = TestApp::with_everyone().await;
    let invited = app.invite(Who::PartnerOwner, "nea@people.test").await;
    app.carry_out(&invited).await;
    let ask = async || {
        let call = app.post(invited.body["linkHref"].as_str().unwrap());
        let call = call.header("idempotency-key", "once");
        app.as_who(call, Who::PartnerOwner).send().await
    };
    let shown = ask().await;
    let owner = app.who(Who::PartnerOwner).await.id;
    app.set_user(owner, doc! { "partnerRole": "manager" }).await;

    let repeated = ask().await;

    assert_eq!(shown.body["link"], LINK);
    assert_eq!(repeated.summary(), "404 not_found");
}

#[tokio::test]
async fn an_owner_who_ceases_to_be_one_takes_along_whom_they_invited() {
    let app = TestApp::with_everyone().await;
    let manager = app.who(Who::PartnerManager).await.id;
    app.set_level(Who::PartnerOwner, manager, "owner").await;
    let theirs = app.invite(Who::PartnerManager, "nea@people.test").await;
    let others = app.invite(Who::PartnerOwner, "ole@people.test").await;

    let demoted = app.set_level(Who::PartnerOwner, manager, "manager").await;

    assert_eq!(demoted.status, StatusCode::OK, "{demoted:?}");
    assert_eq!(app.invitation(&theirs).await, None);
    assert!(app.invitation(&others).await.is_some());
}
