//! What portals are told of the caller.

use std::time::Duration;

use bson::doc;
use dezky_shared::{id::SubscriptionId, platform::clock};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::{Reply, TestApp, id_of};

async fn me(app: &TestApp, caller: Caller) -> Reply {
    app.get("/users/me").by(caller).send().await
}

#[tokio::test]
async fn the_profile_holds_what_a_portal_needs() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let partner = app.with_partner("manager").await;
    let over = app.subscribe("demo", json!({})).await.body;
    let over: SubscriptionId = id_of(&over["id"]);
    let subscriptions = app.collection("subscriptions");
    let cancelled = doc! { "$set": { "status": "cancelled" } };
    subscriptions
        .update_one(doc! { "_id": over }, cancelled)
        .await
        .unwrap();
    let sold = app.subscribe("demo", json!({})).await.body;
    app.subscribe("other", json!({})).await;

    let owner = me(&app, Caller::Owner).await.body;
    let member = me(&app, Caller::Member).await.body;
    let staff = me(&app, Caller::Partner).await.body;
    let stranger = me(&app, Caller::Stranger).await.body;

    assert_eq!(owner["isTenantAdmin"], true);
    assert_eq!(owner["subscriptions"], json!([sold]));
    assert_eq!(owner["subscriptions"][0]["tenant"], "demo");
    assert_eq!(member["isTenantAdmin"], false);
    assert_eq!(member["subscriptions"], json!([sold]));
    let partner = app.state.partners.find(partner).await.unwrap().unwrap();
    assert_eq!(
        staff["partner"],
        json!({
            "id": partner.id.to_string(), "slug": partner.slug, "name": partner.name, "role": "manager",
        })
    );
    assert_eq!(staff["subscriptions"], json!([]));
    assert_eq!(
        (&stranger["partner"], &stranger["subscriptions"]),
        (&Value::Null, &json!([]))
    );
    assert_eq!(stranger["isTenantAdmin"], false);
}

#[tokio::test]
async fn a_terminated_partner_is_nobodys() {
    let app = TestApp::with_demo().await;
    let partner = app.with_partner("owner").await;
    let before = me(&app, Caller::Partner).await;
    let partners = app.collection("partners");
    let terminated = doc! { "$set": { "status": "terminated" } };
    partners
        .update_one(doc! { "_id": partner }, terminated)
        .await
        .unwrap();

    let after = app
        .get("/users/me")
        .by(Caller::Partner)
        .header("if-none-match", before.etag())
        .send()
        .await;

    assert_eq!(before.body["partnerId"], partner.to_string());
    assert_eq!(after.status, 200);
    for field in ["partner", "partnerId", "partnerRole"] {
        assert!(after.body[field].is_null(), "{field}");
    }
}

#[tokio::test]
async fn its_version_is_that_of_all_that_is_shown() {
    let app = TestApp::with_demo().await;
    let look = async |known: &Reply| {
        app.get("/users/me")
            .by(Caller::Owner)
            .header("if-none-match", known.etag())
            .send()
            .await
    };
    let first = me(&app, Caller::Owner).await;

    let same = look(&first).await;
    app.set_tenant("demo", doc! { "name": "Another" }).await;
    let renamed = look(&first).await;
    app.subscribe("demo", json!({})).await;
    let subscribed = look(&renamed).await;
    let id = first.body["id"].as_str().unwrap();
    let edit = app
        .patch(&format!("/users/{id}"))
        .by(Caller::Operator)
        .header("if-match", subscribed.etag())
        .json(&json!({ "name": "Ada" }))
        .send()
        .await;

    assert_eq!(same.status, 304);
    assert_eq!(renamed.body["tenants"][0]["name"], "Another");
    assert_eq!(subscribed.body["subscriptions"][0]["plan"], "business");
    assert_eq!(edit.status, 200, "the user is still in the same version");
}

#[tokio::test]
async fn whoever_looks_was_seen_and_that_is_no_new_version() {
    let app = TestApp::with_demo().await;
    let user = app.user(Caller::Member).await;
    let version = me(&app, Caller::Member).await;
    let now = clock::now();
    let seen = async |before: Duration| {
        let at = clock::earlier(now, before);
        let users = app.collection("users");
        let set = doc! { "$set": { "lastSeenAt": at } };
        users
            .update_one(doc! { "_id": user.id }, set)
            .await
            .unwrap();
        let reply = me(&app, Caller::Member).await;
        assert_eq!(reply.etag(), version.etag());
        let after = app.user(Caller::Member).await;
        assert_eq!(after.revision, user.revision);
        after.last_seen_at.unwrap() > at
    };

    assert!(seen(Duration::from_mins(6)).await);
    assert!(!seen(Duration::from_mins(4)).await, "not every few seconds");
}
