//! Team invariants when operators change staff.

use bson::doc;
use dezky_shared::id::UserId;
use serde_json::{Value, json};

use crate::{app::TestApp, client::Reply, personas::Persona};

const NEW: &str = "00000000-0000-4000-a000-00000000000a";

async fn set(app: &TestApp, id: UserId, body: &Value) -> Reply {
    app.client(Persona::Operator)
        .patch(format!("/users/{id}"), body)
        .await
}

#[tokio::test]
async fn operators_cannot_remove_the_last_partner_owner() {
    let app = TestApp::with_personas().await;
    let owner = app.user(Persona::PartnerOwner).await;

    let moved = set(&app, owner.id, &json!({ "partnerId": null })).await;
    let demoted = set(&app, owner.id, &json!({ "partnerRole": "manager" })).await;
    let deleted = app
        .client(Persona::Operator)
        .delete(format!("/users/{}", owner.id))
        .await;
    let former = app.user(Persona::FormerPartner).await.id;
    let of_terminated_partner = set(&app, former, &json!({ "partnerId": null })).await;

    for rejected in [moved, demoted, deleted] {
        assert_eq!(rejected.summary(), "409 last_owner");
    }
    assert_eq!(app.user(Persona::PartnerOwner).await, owner);
    assert_eq!(of_terminated_partner.summary(), "200");
}

#[tokio::test]
async fn joining_a_partner_revokes_all_invitations() {
    let app = TestApp::with_personas().await;
    let stranger = app.user(Persona::Stranger).await;
    let manager = app.user(Persona::PartnerManager).await;
    let invite = async |by: Persona, email: &str| {
        let body = json!({ "email": email, "name": "Nea", "accessLevel": "support" });
        app.client(by).post("/partner/team", body).await
    };
    for (by, email) in [
        (Persona::PartnerOwner, &stranger.email),
        (Persona::OtherPartner, &manager.email),
    ] {
        assert_eq!(invite(by, email).await.summary(), "202");
    }
    let nordic = app.partner_named("nordic").await.to_string();

    let assigned = set(&app, stranger.id, &json!({ "partnerId": nordic })).await;
    let deleted = app
        .client(Persona::Operator)
        .delete(format!("/users/{}", manager.id))
        .await;

    assert_eq!(
        (assigned.summary(), deleted.summary()),
        ("200".to_owned(), "200".to_owned())
    );
    assert_eq!(app.count("invitations").await, 0);
}

#[tokio::test]
async fn operators_cannot_add_to_a_full_team() {
    let app = TestApp::with_personas().await;
    let nordic = app.partner_named("nordic").await;
    let waiting = (0..200).map(|n| doc! { "_id": n, "partnerId": nordic, "state": "pending" });
    app.collection("invitations")
        .insert_many(waiting)
        .await
        .unwrap();
    let stranger = app.user(Persona::Stranger).await.id;
    let nordic = nordic.to_string();
    let new = json!({
        "authentikSubjectId": NEW, "email": "new@people.test", "name": "New", "partnerId": nordic,
    });

    let assigned = set(&app, stranger, &json!({ "partnerId": nordic })).await;
    let added = app.client(Persona::Operator).post("/users", &new).await;

    assert_eq!(assigned.summary(), "409 team_full");
    assert_eq!(added.summary(), "409 team_full");
}
