//! The caller's profile for portals.

use std::time::Duration;

use bson::{Document, doc};
use dezky_shared::{
    id::{SubscriptionId, TenantId},
    platform::clock,
};
use dezky_sim::callers::Caller;
use serde_json::{Value, json};

use crate::app::{TestApp, id_of};
use crate::client::Reply;

async fn me(app: &TestApp, caller: Caller) -> Reply {
    app.client(caller).get("/users/me").await
}

#[tokio::test]
async fn the_profile_contains_what_a_portal_needs() {
    let app = TestApp::with_demo().await;
    app.create("other").await;
    let partner = app.with_partner("manager").await;
    let over = app.subscribe("demo", json!({})).await.body;
    let over: SubscriptionId = id_of(&over["id"]);
    app.set(
        "subscriptions",
        doc! { "_id": over },
        doc! { "status": "cancelled" },
    )
    .await;
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
    let partner = app.state.db.partners.find(partner).await.unwrap().unwrap();
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
async fn staff_of_a_terminated_partner_have_no_partner() {
    let app = TestApp::with_demo().await;
    let partner = app.with_partner("owner").await;
    let before = me(&app, Caller::Partner).await;
    app.set(
        "partners",
        doc! { "_id": partner },
        doc! { "status": "terminated" },
    )
    .await;

    let after = app
        .partner()
        .get("/users/me")
        .if_none_match(before.etag())
        .await;

    assert_eq!(before.body["partnerId"], partner.to_string());
    assert_eq!(after.status, 200);
    for field in ["partner", "partnerId", "partnerRole"] {
        assert!(after.body[field].is_null(), "{field}");
    }
}

#[tokio::test]
async fn the_profile_etag_covers_everything_it_shows() {
    let app = TestApp::with_demo().await;
    let read_with = async |cached: &Reply| {
        app.owner()
            .get("/users/me")
            .if_none_match(cached.etag())
            .await
    };
    let first = me(&app, Caller::Owner).await;

    let same = read_with(&first).await;
    app.set_tenant("demo", doc! { "name": "Another" }).await;
    let renamed = read_with(&first).await;
    app.subscribe("demo", json!({})).await;
    let subscribed = read_with(&renamed).await;
    let id = first.body["id"].as_str().unwrap();
    let edit = app
        .operator()
        .patch(format!("/users/{id}"), json!({ "name": "Ada" }))
        .if_match(subscribed.etag())
        .await;

    assert_eq!(same.status, 304);
    assert_eq!(renamed.body["tenants"][0]["name"], "Another");
    assert_eq!(subscribed.body["subscriptions"][0]["plan"], "business");
    assert_eq!(edit.status, 200, "the user is still in the same version");
}

#[tokio::test]
async fn reading_the_profile_updates_last_seen_without_a_new_version() {
    let app = TestApp::with_demo().await;
    let user = app.user(Caller::Member).await;
    let version = me(&app, Caller::Member).await;
    let now = clock::now();
    let seen = async |before: Duration| {
        let at = clock::earlier(now, before);
        app.set("users", doc! { "_id": user.id }, doc! { "lastSeenAt": at })
            .await;
        let reply = me(&app, Caller::Member).await;
        assert_eq!(reply.etag(), version.etag());
        let after = app.user(Caller::Member).await;
        assert_eq!(after.revision, user.revision);
        after.last_seen_at.unwrap() > at
    };

    assert!(seen(Duration::from_mins(6)).await);
    assert!(!seen(Duration::from_mins(4)).await, "not every few seconds");
}

#[tokio::test]
async fn the_profile_of_a_person_in_many_tenants_is_bounded() {
    let app = TestApp::with_demo().await;
    let user = app.user(Caller::Member).await;
    let like = app.document("tenants", doc! { "slug": "demo" }).await;
    // A later token may add the demo tenant again, so it is one of them.
    let demo: TenantId = bson::deserialize_from_bson(like.get("_id").cloned().unwrap()).unwrap();
    let others: Vec<TenantId> = std::iter::repeat_with(TenantId::new).take(149).collect();
    let mut ids = others.clone();
    ids.push(demo);
    ids.sort_unstable();
    let tenants = others.iter().map(|id| {
        let mut tenant = like.clone();
        tenant.extend(doc! { "_id": id, "slug": format!("t-{id}"), "domains": [] });
        tenant
    });
    app.collection("tenants")
        .insert_many(tenants)
        .await
        .unwrap();
    let memberships: Vec<Document> = ids
        .iter()
        .map(|id| {
            doc! { "tenantId": id, "role": "admin", "source": "local", "changedAt": clock::now() }
        })
        .collect();
    let filter = doc! { "_id": user.id };
    app.set("users", filter, doc! { "memberships": memberships })
        .await;

    let profile = me(&app, Caller::Member).await.body;
    let detail = app.operator().get(format!("/users/{}", user.id)).await.body;

    for body in [profile, detail] {
        assert_eq!(body["tenantCount"], 150);
        assert_eq!(body["tenants"].as_array().unwrap().len(), 100);
        assert_eq!(body["tenantIds"].as_array().unwrap().len(), 100);
        assert_eq!(body["tenantIds"][99], ids[99].to_string());
        assert_eq!(body["tenantRoles"].as_object().unwrap().len(), 100);
    }
}
