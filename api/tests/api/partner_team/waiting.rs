//! Permissions are rechecked after waiting for the tenant's lock or for a slow request body.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bson::doc;
use dezky_api::keyed_mutex::partner_key;
use futures::{FutureExt as _, stream};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

use crate::{
    app::TestApp,
    client::{Call, Reply},
    personas::Persona,
};

/// Queue limit of one key.
const MAX_WAITERS: usize = 64;

/// Reply to `call` when `revoke` runs while the call is queued for `key`.
async fn reply_after(
    app: &TestApp,
    key: &str,
    call: Call<'_>,
    revoke: impl Future<Output = ()>,
) -> Reply {
    let turns = &app.state.locks;
    let first = turns.lock(key).await.unwrap();
    let mut others: Vec<_> = (1..MAX_WAITERS)
        .map(|_| Box::pin(turns.lock(key)))
        .collect();
    for other in &mut others {
        assert!(other.as_mut().now_or_never().is_none());
    }
    let waits = async {
        // The queue is full once the request has joined it.
        while !matches!(turns.lock(key).now_or_never(), Some(Err(_))) {
            tokio::task::yield_now().await;
        }
        revoke.await;
        drop((first, others));
    };
    tokio::join!(call.send(), waits).0
}

#[tokio::test]
async fn tenant_detachment_while_queued_rejects_the_write() {
    let app = TestApp::with_personas().await;
    let manager = app.client(Persona::PartnerManager);
    let call = manager.post_empty("/partner/tenants/demo/suspend");
    let revoke = app.set_tenant("demo", doc! { "partnerId": null });

    let reply = reply_after(&app, "demo", call, revoke).await;

    assert_eq!(reply.summary(), "404 not_found");
    assert_eq!(app.tenant("demo").await.status.name(), "pending");
}

#[tokio::test]
async fn partner_termination_while_queued_rejects_the_write() {
    let app = TestApp::with_personas().await;
    let owner = app.client(Persona::PartnerOwner);
    let call = owner.patch("/partner/settings", json!({ "name": "Late" }));
    let revoke = app.set(
        "partners",
        doc! { "slug": "nordic" },
        doc! { "status": "terminated" },
    );

    let nordic = app.state.db.partners.find_by_slug("nordic").await.unwrap();
    let key = partner_key(nordic.unwrap().id);
    let reply = reply_after(&app, &key, call, revoke).await;

    assert_eq!(reply.summary(), "403 forbidden");
    let nordic = app.state.db.partners.find_by_slug("nordic").await.unwrap();
    assert_eq!(nordic.unwrap().name, "nordic");
}

#[tokio::test]
async fn a_role_downgrade_while_queued_rejects_the_write() {
    let app = TestApp::with_personas().await;
    let call = app
        .client(Persona::Admin)
        .patch("/tenants/demo", json!({ "name": "Late" }));
    let admin = app.user(Persona::Admin).await.id;
    let revoke = app.set_user(admin, doc! { "memberships.0.role": "member" });

    let reply = reply_after(&app, "demo", call, revoke).await;

    assert_eq!(reply.summary(), "403 forbidden");
    assert_ne!(app.tenant("demo").await.name, "Late");
}

#[tokio::test]
async fn a_role_downgrade_during_a_slow_body_rejects_the_write() {
    let app = TestApp::with_personas().await;
    let owner = app.user(Persona::Owner).await.id;
    let member = app.user(Persona::Member).await;
    let token = app.token(&Persona::Owner.token().unwrap());
    let colleague = format!("/tenants/demo/users/{}", member.id);
    for (path, json) in [
        ("/tenants/demo", json!({ "name": "Late" })),
        (&colleague, json!({ "role": "owner" })),
    ] {
        app.set_user(owner, doc! { "memberships.0.role": "owner" })
            .await;
        let users = app.collection("users");
        let body = stream::once(async move {
            let set = doc! { "$set": { "memberships.0.role": "member" } };
            let revoked = users.update_one(doc! { "_id": owner }, set).await;
            assert_eq!(revoked.unwrap().modified_count, 1);
            // Longer than permissions are considered fresh.
            tokio::time::sleep(Duration::from_millis(150)).await;
            Ok::<_, Infallible>(json.to_string())
        });
        let request = Request::patch(path)
            .header("host", "api.test")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from_stream(body))
            .unwrap();

        let reply = app.router.clone().oneshot(request).await.unwrap();

        assert_eq!(reply.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_ne!(app.tenant("demo").await.name, "Late");
    let memberships = app.user(Persona::Member).await.memberships;
    assert_eq!(memberships, member.memberships);
}
