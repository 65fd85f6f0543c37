//! Invitations to existing accounts, which wait for the account's owner.

use bson::doc;
use dezky_shared::{id::InvitationId, invitation::InvitationState, queue::job::Job};
use http::StatusCode;
use serde_json::json;

use crate::{
    app::{TestApp, id_of},
    client::Reply,
    personas::Persona,
};

impl TestApp {
    /// Invites the existing account of `persona` to the team of `nordic`, as far as the job does.
    async fn invite_account(&self, persona: Persona) -> InvitationId {
        let subject = self.user(persona).await.authentik_subject_id;
        let body = json!({ "email": "nea@people.test", "name": "Nea", "accessLevel": "support" });
        let invited = self
            .client(Persona::PartnerOwner)
            .post("/partner/team", body)
            .await;
        assert_eq!(invited.status, StatusCode::ACCEPTED, "{invited:?}");
        let id: InvitationId = id_of(&invited.body["id"]);
        let waiting = doc! { "state": "awaitingConsent", "subject": subject };
        self.set("invitations", doc! { "_id": id }, waiting).await;
        id
    }

    async fn respond(&self, by: Persona, id: InvitationId, answer: &str) -> Reply {
        let path = format!("/invitations/{id}/{answer}");
        self.client(by).post_empty(path).await
    }

    async fn me(&self, persona: Persona) -> Reply {
        self.client(persona).get("/users/me").await
    }
}

#[tokio::test]
async fn the_owner_of_an_invited_account_sees_and_accepts_the_invitation() {
    let app = TestApp::with_personas().await;
    let etag = app.me(Persona::Stranger).await.etag().to_owned();
    let id = app.invite_account(Persona::Stranger).await;

    let shown = app.me(Persona::Stranger).await;
    let others = app.me(Persona::Member).await;
    let by_other = app.respond(Persona::Member, id, "accept").await;
    let accepted = app.respond(Persona::Stranger, id, "accept").await;
    let afterwards = app.me(Persona::Stranger).await;
    let again = app.respond(Persona::Stranger, id, "accept").await;

    assert_ne!(shown.etag(), etag);
    let invitation = &shown.body["invitations"][0];
    assert_eq!(invitation["id"], json!(id.to_string()));
    assert_eq!(invitation["partnerSlug"], "nordic");
    assert_eq!(invitation["accessLevel"], "support");
    assert_eq!(others.body.get("invitations"), None);
    assert_eq!(by_other.summary(), "404 not_found");
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{accepted:?}");
    let job: Job = app.jobs().await.pop().unwrap();
    assert_eq!(accepted.body["job"]["id"], json!(job.id.to_string()));
    assert_eq!(job.kind, "invite_partner_member");
    let stored = app.state.db.invitations.find(id).await.unwrap().unwrap();
    assert_eq!(stored.state, InvitationState::Pending);
    assert!(stored.accepted_at.is_some());
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.accept");
    assert_eq!(afterwards.body.get("invitations"), None);
    assert_eq!(again.summary(), "404 not_found");
}

#[tokio::test]
async fn a_declined_invitation_is_deleted_and_its_response_can_be_repeated() {
    let app = TestApp::with_personas().await;
    let id = app.invite_account(Persona::Stranger).await;
    let decline = async || {
        let path = format!("/invitations/{id}/decline");
        let call = app.client(Persona::Stranger).post_empty(path);
        call.idempotency_key("once").await
    };

    let declined = decline().await;
    let repeated = decline().await;

    assert_eq!(declined.status, StatusCode::OK, "{declined:?}");
    assert_eq!(repeated.body, declined.body);
    assert!(repeated.is_replayed());
    assert_eq!(app.state.db.invitations.find(id).await.unwrap(), None);
    assert_eq!(app.actions().await.last().unwrap(), "partnerMember.decline");
}

#[tokio::test]
async fn staff_of_another_partner_and_operators_cannot_accept() {
    let app = TestApp::with_personas().await;
    for persona in [Persona::OtherPartner, Persona::Operator] {
        let id = app.invite_account(persona).await;

        let reply = app.respond(persona, id, "accept").await;

        assert_eq!(reply.summary(), "409 works_elsewhere", "{persona:?}");
    }
}

#[tokio::test]
async fn an_expired_invitation_cannot_be_accepted_and_is_not_shown() {
    let app = TestApp::with_personas().await;
    let id = app.invite_account(Persona::Stranger).await;
    let over = doc! { "expireAt": bson::DateTime::from_millis(0) };
    app.set("invitations", doc! { "_id": id }, over).await;

    let shown = app.me(Persona::Stranger).await;
    let reply = app.respond(Persona::Stranger, id, "accept").await;

    assert_eq!(shown.body.get("invitations"), None);
    assert_eq!(reply.summary(), "404 not_found");
}

#[tokio::test]
async fn an_invitation_that_awaits_consent_has_no_link() {
    let app = TestApp::with_personas().await;
    let id = app.invite_account(Persona::Stranger).await;

    let reply = app.respond(Persona::PartnerOwner, id, "link").await;

    assert_eq!(reply.summary(), "409 link_not_needed");
}
