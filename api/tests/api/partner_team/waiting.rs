//! Whoever waits, for a turn or for their own body, acts with the rights they have after it.

use std::{convert::Infallible, time::Duration};

use axum::body::Body;
use bson::doc;
use futures::{FutureExt as _, stream};
use http::{Request, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

use crate::{
    app::{Call, Reply, TestApp},
    everyone::Who,
};

/// How many may wait in a line.
const LONGEST_LINE: usize = 64;

/// What `call` is answered when `revoke` happens while it waits in `line`.
async fn answered_after(
    app: &TestApp,
    line: &str,
    call: Call<'_>,
    revoke: impl Future<Output = ()>,
) -> Reply {
    let turns = &app.state.turns;
    let first = turns.lock(line).await.unwrap();
    let mut others: Vec<_> = (1..LONGEST_LINE)
        .map(|_| Box::pin(turns.lock(line)))
        .collect();
    for other in &mut others {
        assert!(other.as_mut().now_or_never().is_none());
    }
    let waits = async {
        // The line is full once the request is in it.
        while !matches!(turns.lock(line).now_or_never(), Some(Err(_))) {
            tokio::task::yield_now().await;
        }
        revoke.await;
        drop((first, others));
    };
    tokio::join!(call.send(), waits).0
}

#[tokio::test]
async fn a_tenant_that_is_not_the_partners_any_more_is_left_alone() {
    let app = TestApp::with_everyone().await;
    let call = app.as_who(
        app.post("/partner/tenants/demo/suspend"),
        Who::PartnerManager,
    );
    let revoke = app.set_tenant("demo", doc! { "partnerId": null });

    let reply = answered_after(&app, "demo", call, revoke).await;

    assert_eq!(reply.summary(), "404 not_found");
    assert_eq!(app.tenant("demo").await.status.name(), "pending");
}

#[tokio::test]
async fn a_partner_that_was_terminated_meanwhile_changes_nothing() {
    let app = TestApp::with_everyone().await;
    let call = app
        .patch("/partner/settings")
        .json(&json!({ "name": "Late" }));
    let call = app.as_who(call, Who::PartnerOwner);
    let revoke = async {
        let partners = app.collection("partners");
        let terminated = doc! { "$set": { "status": "terminated" } };
        let one = doc! { "slug": "nordic" };
        partners.update_one(one, terminated).await.unwrap();
    };

    let reply = answered_after(&app, "partner:nordic", call, revoke).await;

    assert_eq!(reply.summary(), "403 forbidden");
    let nordic = app.state.partners.find_by_slug("nordic").await.unwrap();
    assert_eq!(nordic.unwrap().name, "nordic");
}

#[tokio::test]
async fn an_admin_who_is_a_member_by_then_changes_nothing() {
    let app = TestApp::with_everyone().await;
    let call = app.patch("/tenants/demo").json(&json!({ "name": "Late" }));
    let call = app.as_who(call, Who::Admin);
    let admin = app.who(Who::Admin).await.id;
    let revoke = app.set_user(admin, doc! { "memberships.0.role": "member" });

    let reply = answered_after(&app, "demo", call, revoke).await;

    assert_eq!(reply.summary(), "403 forbidden");
    assert_ne!(app.tenant("demo").await.name, "Late");
}

#[tokio::test]
async fn an_owner_who_is_a_member_when_the_body_ends_changes_nothing() {
    let app = TestApp::with_everyone().await;
    let owner = app.who(Who::Owner).await.id;
    let member = app.who(Who::Member).await;
    let token = app.token(&Who::Owner.token().unwrap());
    let colleague = format!("/tenants/demo/users/{}", member.id);
    for (path, wanted) in [
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
            // For longer than rights count as those of the moment.
            tokio::time::sleep(Duration::from_millis(150)).await;
            Ok::<_, Infallible>(wanted.to_string())
        });
        let request = Request::patch(path)
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Body::from_stream(body))
            .unwrap();

        let reply = app.router.clone().oneshot(request).await.unwrap();

        assert_eq!(reply.status(), StatusCode::FORBIDDEN, "{path}");
    }
    assert_ne!(app.tenant("demo").await.name, "Late");
    let known = app.who(Who::Member).await.memberships;
    assert_eq!(known, member.memberships);
}
