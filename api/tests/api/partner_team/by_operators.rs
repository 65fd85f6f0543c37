//! What holds of a partner's team when operators change who works for it.

use bson::doc;
use dezky_shared::id::UserId;
use serde_json::{Value, json};

use crate::{
    app::{Reply, TestApp},
    everyone::Who,
};

const NEW: &str = "00000000-0000-4000-a000-00000000000a";

async fn set(app: &TestApp, id: UserId, body: &Value) -> Reply {
    let call = app.patch(&format!("/users/{id}")).json(body);
    app.as_who(call, Who::Operator).send().await
}

#[tokio::test]
async fn a_partner_keeps_its_last_owner_whoever_takes_them_away() {
    let app = TestApp::with_everyone().await;
    let owner = app.who(Who::PartnerOwner).await;

    let moved = set(&app, owner.id, &json!({ "partnerId": null })).await;
    let demoted = set(&app, owner.id, &json!({ "partnerRole": "manager" })).await;
    let delete = app.delete(&format!("/users/{}", owner.id));
    let deleted = app.as_who(delete, Who::Operator).send().await;
    let former = app.who(Who::FormerPartner).await.id;
    let of_a_terminated = set(&app, former, &json!({ "partnerId": null })).await;

    for refused in [moved, demoted, deleted] {
        assert_eq!(refused.summary(), "409 last_owner");
    }
    assert_eq!(app.who(Who::PartnerOwner).await, owner);
    assert_eq!(of_a_terminated.summary(), "200");
}

#[tokio::test]
async fn another_partner_takes_back_every_invitation() {
    let app = TestApp::with_everyone().await;
    let stranger = app.who(Who::Stranger).await;
    let manager = app.who(Who::PartnerManager).await;
    let invite = async |by: Who, email: &str| {
        let call = app.post("/partner/team");
        let call = call.json(&json!({ "email": email, "name": "Nea", "accessLevel": "support" }));
        app.as_who(call, by).send().await
    };
    for (by, email) in [
        (Who::PartnerOwner, &stranger.email),
        (Who::OtherPartner, &manager.email),
    ] {
        assert_eq!(invite(by, email).await.summary(), "202");
    }
    let nordic = app.partner_named("nordic").await.to_string();

    let hired = set(&app, stranger.id, &json!({ "partnerId": nordic })).await;
    let delete = app.delete(&format!("/users/{}", manager.id));
    let deleted = app.as_who(delete, Who::Operator).send().await;

    assert_eq!(
        (hired.summary(), deleted.summary()),
        ("200".to_owned(), "200".to_owned())
    );
    assert_eq!(app.count("invitations").await, 0);
}

#[tokio::test]
async fn a_full_team_takes_nobody_on_from_operators_either() {
    let app = TestApp::with_everyone().await;
    let nordic = app.partner_named("nordic").await;
    let waiting = (0..200).map(|n| doc! { "_id": n, "partnerId": nordic, "state": "pending" });
    app.collection("invitations")
        .insert_many(waiting)
        .await
        .unwrap();
    let stranger = app.who(Who::Stranger).await.id;
    let nordic = nordic.to_string();
    let new = json!({
        "authentikSubjectId": NEW, "email": "new@people.test", "name": "New", "partnerId": nordic,
    });

    let hired = set(&app, stranger, &json!({ "partnerId": nordic })).await;
    let call = app.post("/users").json(&new);
    let added = app.as_who(call, Who::Operator).send().await;

    assert_eq!(hired.summary(), "409 team_full");
    assert_eq!(added.summary(), "409 team_full");
}
