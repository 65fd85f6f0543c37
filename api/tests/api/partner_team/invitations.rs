//! Team invitations and their one-time links.

use std::fmt::Write as _;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    id::{InvitationId, JobId, PartnerId, TenantId, UserId},
    invitation::{EncryptedLink, Invitation, InvitationState},
    platform::clock,
    store::to_document,
    user::User,
};
use futures::TryStreamExt as _;
use http::StatusCode;
use serde_json::{Value, json};

use crate::{
    app::{TestApp, id_of},
    client::Reply,
    personas::Persona,
};

const LINK: &str = "https://auth.people.test/if/flow/recovery/?flow_token=0123456789abcdef";
const TOKEN: &str = "0123456789abcdef";

impl TestApp {
    pub(super) async fn partner_named(&self, slug: &str) -> PartnerId {
        let found = self.state.db.partners.find_by_slug(slug).await;
        found.unwrap().unwrap().id
    }

    async fn invite(&self, by: Persona, email: &str) -> Reply {
        let body = json!({ "email": email, "name": "Nea", "accessLevel": "support" });
        self.client(by).post("/partner/team", body).await
    }

    async fn invitation(&self, invited: &Reply) -> Option<Invitation> {
        let id = id_of(&invited.body["id"]);
        self.state.db.invitations.find(id).await.unwrap()
    }

    /// Completes the invitation as its job does, for a new account with a link.
    async fn complete(&self, invited: &Reply) -> UserId {
        let id: InvitationId = id_of(&invited.body["id"]);
        let job_id: JobId = id_of(&invited.body["job"]["id"]);
        let invitation = self.state.db.invitations.find(id).await.unwrap().unwrap();
        let user = User {
            partner_id: Some(invitation.partner_id),
            partner_role: Some(invitation.role),
            ..User::first_seen(&id.to_string(), "nea@people.test", "Nea", clock::now())
        };
        let users = self.state.store.collection::<User>("users");
        users.insert_one(&user).await.unwrap();
        let secrets = self
            .state
            .config
            .encryption_keys
            .encrypt(job_id, &LINK)
            .unwrap();
        let link = to_document(&EncryptedLink { secrets, job_id }).unwrap();
        self.set_invitation(
            id,
            doc! { "state": "ready", "link": link, "userId": user.id },
        )
        .await;
        user.id
    }

    async fn set_invitation(&self, id: InvitationId, set: Document) {
        self.set("invitations", doc! { "_id": id }, set).await;
    }

    async fn show_link(&self, by: Persona, invited: &Reply) -> Reply {
        let href = invited.body["linkHref"].as_str().unwrap();
        self.client(by).post_empty(href).await
    }

    /// Debug output of the whole database.
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
async fn creating_an_invitation_stores_it_and_returns_its_job() {
    let app = TestApp::with_personas().await;
    let owner = app.user(Persona::PartnerOwner).await;

    let reply = app.invite(Persona::PartnerOwner, "Nea@People.test").await;

    assert_eq!(reply.status, StatusCode::ACCEPTED, "{reply:?}");
    assert_eq!(reply.body["email"], "nea@people.test");
    assert_eq!(reply.body["accessLevel"], "support");
    let job = app
        .state
        .db
        .jobs
        .find(id_of(&reply.body["job"]["id"]))
        .await;
    let job = job.unwrap().unwrap();
    assert_eq!(job.kind, "invite_partner_member");
    assert_eq!(job.partner_id(), owner.partner_id);
    let invitation = app.invitation(&reply).await.unwrap();
    assert_eq!(invitation.state, InvitationState::Pending);
    assert_eq!(invitation.invited_by, owner.id);
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.invite");
}

#[tokio::test]
async fn all_invalid_fields_of_an_invitation_are_reported_together() {
    let app = TestApp::with_personas().await;
    let body = json!({ "email": "no", "name": " ", "accessLevel": "admin" });

    let reply = app
        .client(Persona::PartnerOwner)
        .post("/partner/team", body)
        .await;

    assert_eq!(reply.summary(), "422 validation_failed");
    let pointers: Vec<&str> = reply
        .errors()
        .into_iter()
        .map(|(pointer, _)| pointer)
        .collect();
    assert_eq!(pointers, ["/email", "/name", "/accessLevel"]);
    assert_eq!(app.count("invitations").await, 0);
}

#[tokio::test]
async fn an_operator_invites_the_first_owner_of_a_partner() {
    let app = TestApp::with_personas().await;
    let partner = app.insert_partner("fresh", "active").await;
    let body = json!({ "email": "first@people.test", "name": "First", "accessLevel": "owner" });
    let operator = app.client(Persona::Operator);
    let invite = async |slug: &str| operator.post(format!("/partners/{slug}/team"), &body).await;

    let invited = invite("fresh").await;
    let former = invite("former").await;
    let unknown = invite("unknown").await;

    assert_eq!(invited.status, StatusCode::ACCEPTED, "{invited:?}");
    let invitation = app.invitation(&invited).await.unwrap();
    assert_eq!(invitation.partner_id, partner);
    assert_eq!(former.summary(), "409 partner_terminated");
    assert_eq!(unknown.summary(), "404 not_found");
    app.complete(&invited).await;
    let shown = app.show_link(Persona::Operator, &invited).await;
    assert_eq!(shown.body["link"], LINK);
}

#[tokio::test]
async fn inviting_again_revokes_the_earlier_invitation() {
    let app = TestApp::with_personas().await;
    let first = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&first).await;

    let second = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    let elsewhere = app.invite(Persona::OtherPartner, "nea@people.test").await;

    assert_eq!(app.invitation(&first).await, None);
    assert!(app.invitation(&second).await.is_some());
    assert!(app.invitation(&elsewhere).await.is_some());
    let shown = app.show_link(Persona::PartnerOwner, &first).await;
    assert_eq!(shown.summary(), "404 not_found");
}

#[tokio::test]
async fn removing_a_member_revokes_their_invitation_and_its_link() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "other@people.test").await;
    let user = app.complete(&invited).await;
    let nordic = app.partner_named("nordic").await;
    app.set_user(user, doc! { "partnerId": nordic, "partnerRole": "support" })
        .await;

    let removed = app.remove_member(Persona::PartnerOwner, user).await;

    assert_eq!(removed.status, StatusCode::ACCEPTED, "{removed:?}");
    assert_eq!(removed.body["status"], "invited");
    let shown = app.show_link(Persona::PartnerOwner, &invited).await;
    assert_eq!(shown.summary(), "404 not_found");
}

#[tokio::test]
async fn a_link_is_shown_once_to_the_inviter_and_not_stored_in_plain_text() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&invited).await;

    for stranger in [
        Persona::PartnerManager,
        Persona::OtherPartner,
        Persona::Operator,
        Persona::Stranger,
    ] {
        let reply = app.show_link(stranger, &invited).await;
        assert_eq!(reply.summary(), "404 not_found", "{stranger:?}");
    }
    let shown = app.show_link(Persona::PartnerOwner, &invited).await;
    let again = app.show_link(Persona::PartnerOwner, &invited).await;

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
async fn a_replayed_link_request_does_not_return_the_link() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&invited).await;
    let href = invited.body["linkHref"].as_str().unwrap();
    let client = app.client(Persona::PartnerOwner);
    let show_once = async || client.post_empty(href).idempotency_key("once").await;

    let shown = show_once().await;
    let replayed = show_once().await;

    assert_eq!(shown.body["link"], LINK);
    assert_eq!(replayed.status, StatusCode::OK, "{replayed:?}");
    assert!(replayed.is_replayed());
    assert_eq!(replayed.body["link"], Value::Null);
    assert_eq!(replayed.body["secretAlreadyShown"], true);
    assert!(!app.dump().await.contains(TOKEN));
}

#[tokio::test]
async fn concurrent_link_requests_show_the_link_once() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&invited).await;

    let requests = (0..8).map(|_| app.show_link(Persona::PartnerOwner, &invited));
    let replies = futures::future::join_all(requests).await;

    let shown = replies.iter().filter(|reply| reply.body["link"] == LINK);
    assert_eq!(shown.count(), 1, "{replies:?}");
    let rejected = replies.iter().filter(|reply| reply.status == 410);
    assert_eq!(rejected.count(), 7, "{replies:?}");
}

#[tokio::test]
async fn a_demoted_inviter_cannot_see_the_link() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&invited).await;
    let owner = app.user(Persona::PartnerOwner).await.id;
    app.set_user(owner, doc! { "partnerRole": "manager" }).await;

    let reply = app.show_link(Persona::PartnerOwner, &invited).await;

    assert_eq!(reply.summary(), "404 not_found");
}

#[tokio::test]
async fn a_missing_link_has_a_specific_problem_code() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    let id = id_of(&invited.body["id"]);

    let pending = app.show_link(Persona::PartnerOwner, &invited).await;
    app.complete(&invited).await;
    app.set_invitation(id, doc! { "state": "noLink" }).await;
    let not_needed = app.show_link(Persona::PartnerOwner, &invited).await;
    let past = DateTime::from_millis(app.state.store.now().timestamp_millis() - 1);
    app.set_invitation(id, doc! { "state": "ready", "expireAt": past })
        .await;
    let over = app.show_link(Persona::PartnerOwner, &invited).await;

    assert_eq!(pending.summary(), "409 link_not_ready");
    assert_eq!(not_needed.summary(), "409 link_not_needed");
    assert_eq!(over.summary(), "404 not_found");
}

#[tokio::test]
async fn without_encryption_keys_invitations_fail_and_links_are_kept() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&invited).await;
    let keyless = app.without_encryption_keys();

    let shown = keyless.show_link(Persona::PartnerOwner, &invited).await;
    let rejected = keyless
        .invite(Persona::PartnerOwner, "new@people.test")
        .await;

    assert_eq!(shown.summary(), "503 sealing_not_configured");
    assert_eq!(rejected.summary(), "503 sealing_not_configured");
    let kept = keyless.invitation(&invited).await.unwrap();
    assert_eq!(kept.state, InvitationState::Ready);
}

#[tokio::test]
async fn an_invitation_to_a_full_team_is_rejected() {
    let app = TestApp::with_personas().await;
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

    let reply = app.invite(Persona::PartnerOwner, "nea@people.test").await;

    assert_eq!(reply.summary(), "409 team_full");
    assert_eq!(app.count("invitations").await, 0);
}

#[tokio::test]
async fn a_link_is_withheld_once_the_account_has_other_rights_or_was_used() {
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
        let app = TestApp::with_personas().await;
        let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
        let user = app.complete(&invited).await;
        app.set_user(user, set.clone()).await;

        let reply = app.show_link(Persona::PartnerOwner, &invited).await;

        assert_eq!(reply.summary(), "409 link_not_needed", "{set}");
        let kept = app.invitation(&invited).await.unwrap();
        assert_eq!((kept.state, kept.link), (InvitationState::NoLink, None));
    }
}

#[tokio::test]
async fn a_demoted_inviter_gets_no_replayed_link_response() {
    let app = TestApp::with_personas().await;
    let invited = app.invite(Persona::PartnerOwner, "nea@people.test").await;
    app.complete(&invited).await;
    let href = invited.body["linkHref"].as_str().unwrap();
    let client = app.client(Persona::PartnerOwner);
    let show_once = async || client.post_empty(href).idempotency_key("once").await;
    let shown = show_once().await;
    let owner = app.user(Persona::PartnerOwner).await.id;
    app.set_user(owner, doc! { "partnerRole": "manager" }).await;

    let repeated = show_once().await;

    assert_eq!(shown.body["link"], LINK);
    assert_eq!(repeated.summary(), "404 not_found");
}

#[tokio::test]
async fn demoting_an_owner_revokes_their_invitations() {
    let app = TestApp::with_personas().await;
    let manager = app.user(Persona::PartnerManager).await.id;
    app.set_access_level(Persona::PartnerOwner, manager, "owner")
        .await;
    let revoked = app.invite(Persona::PartnerManager, "nea@people.test").await;
    let kept = app.invite(Persona::PartnerOwner, "ole@people.test").await;

    let demoted = app
        .set_access_level(Persona::PartnerOwner, manager, "manager")
        .await;

    assert_eq!(demoted.status, StatusCode::OK, "{demoted:?}");
    assert_eq!(app.invitation(&revoked).await, None);
    assert!(app.invitation(&kept).await.is_some());
}
