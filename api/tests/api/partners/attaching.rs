//! Attaching tenants to partners, and termination of a partner.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    id::PartnerId,
    partner::{Partner, PartnerStatus},
    store::{StoreError, TransactionError, VersionedRepository as _},
};
use futures::FutureExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{edit, partner, terminate};
use crate::{app::TestApp, client::Reply, personas::Persona};

/// Time for which a request is observed to stay pending.
const A_WHILE: Duration = Duration::from_millis(300);

async fn attach(app: &TestApp, slug: &str, partner: Value) -> Reply {
    app.operator()
        .patch(format!("/tenants/{slug}"), json!({ "partnerId": partner }))
        .await
}

#[tokio::test]
async fn a_tenant_is_attached_to_and_detached_from_a_partner() {
    let app = TestApp::with_demo().await;
    let nordic = app.insert_partner("nordic", "active").await;

    let attached = attach(&app, "demo", json!(nordic)).await;
    let created = app
        .operator()
        .post(
            "/tenants",
            json!({ "slug": "acme", "name": "Acme", "partnerId": nordic }),
        )
        .await;
    let detached = attach(&app, "demo", Value::Null).await;

    assert_eq!(
        (attached.summary(), created.summary()),
        ("200".into(), "202".into())
    );
    assert_eq!(attached.body["partnerId"], nordic.to_string());
    assert_eq!(created.body["partnerId"], nordic.to_string());
    assert_eq!(detached.body["partnerId"], Value::Null);
    assert_eq!(partner(&app, "nordic").await.revision, 1);
}

#[tokio::test]
async fn a_tenant_can_be_attached_only_to_an_active_partner() {
    let app = TestApp::with_demo().await;
    let former = app.insert_partner("former", "terminated").await;
    let before = app.tenant("demo").await;

    for (id, code) in [
        (PartnerId::new(), "unknown_partner"),
        (former, "partner_terminated"),
    ] {
        let attached = attach(&app, "demo", json!(id)).await;
        let created = app
            .operator()
            .post(
                "/tenants",
                json!({ "slug": "acme", "name": "Acme", "partnerId": id }),
            )
            .await;

        for reply in [attached, created] {
            assert_eq!(reply.summary(), "422 validation_failed");
            assert_eq!(reply.errors(), [("/partnerId", code)]);
        }
    }
    assert_eq!(app.tenant("demo").await, before);
    assert_eq!(app.count("tenants").await, 1);
}

#[tokio::test]
async fn a_tenant_of_a_terminated_partner_can_be_edited_and_reassigned() {
    let app = TestApp::with_demo().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let elsewhere = app.insert_partner("elsewhere", "active").await;
    attach(&app, "demo", json!(nordic)).await;
    terminate(&app, "nordic").await;

    let same = attach(&app, "demo", json!(nordic)).await;
    let renamed = app
        .operator()
        .patch("/tenants/demo", json!({ "industry": "anvils" }))
        .await;
    let moved = attach(&app, "demo", json!(elsewhere)).await;

    let summaries = [same, renamed, moved].map(|reply| reply.summary());
    assert_eq!(summaries, ["200", "200", "200"]);
    assert_eq!(app.tenant("demo").await.partner_id, Some(elsewhere));
}

#[tokio::test]
async fn attaching_during_a_termination_waits_and_is_rejected() {
    let app = TestApp::with_demo().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let (started, resume) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let context = (
        app.state.db.partners.clone(),
        started.clone(),
        resume.clone(),
    );
    let ending = app
        .state
        .store
        .transaction(context, |session, (partners, started, resume)| {
            async move {
                let partner = partners.find_for_update(session, nordic).await?.unwrap();
                let partner = Partner {
                    status: PartnerStatus::Terminated,
                    ..partner
                };
                partners.save(session, &partner).await?;
                started.notify_one();
                resume.notified().await;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        });
    let attaching = async {
        started.notified().await;
        let mut attached = Box::pin(attach(&app, "demo", json!(nordic)));
        let early = tokio::time::timeout(A_WHILE, &mut attached).await;
        resume.notify_one();
        assert!(early.is_err(), "{early:?}");
        attached.await
    };

    let (ended, attached) = tokio::join!(ending, attaching);

    ended.unwrap();
    assert_eq!(attached.errors(), [("/partnerId", "partner_terminated")]);
    assert_eq!(app.tenant("demo").await.partner_id, None);
}

#[tokio::test]
async fn concurrent_termination_and_attachment_both_respond() {
    let app = TestApp::with_demo().await;

    for n in 0..6 {
        let slug = format!("partner-{n}");
        let id = app.insert_partner(&slug, "active").await;
        attach(&app, "demo", Value::Null).await;

        let (ended, attached) =
            tokio::join!(terminate(&app, &slug), attach(&app, "demo", json!(id)));

        assert_eq!(ended.summary(), "200");
        let kept = app.tenant("demo").await.partner_id;
        if attached.summary() == "200" {
            assert_eq!(kept, Some(id));
        } else {
            assert_eq!(attached.errors(), [("/partnerId", "partner_terminated")]);
            assert_eq!(kept, None);
        }
    }
}

#[tokio::test]
async fn terminating_a_partner_ends_staff_access_on_the_next_request() {
    let app = TestApp::with_personas().await;
    let client = app.client(Persona::PartnerOwner);
    let read = async |path: &str| client.get(path).await.summary();
    let paths = [
        "/partner",
        "/partner/tenants",
        "/partner/tenants/demo",
        "/partner/settings",
        "/tenants/demo",
    ];
    for path in paths {
        assert_eq!(read(path).await, "200", "{path}");
    }

    terminate(&app, "nordic").await;
    let mut after = Vec::new();
    for path in paths {
        after.push(read(path).await);
    }
    let create = json!({ "slug": "acme", "name": "Acme" });
    let created = app
        .client(Persona::PartnerOwner)
        .post("/partner/tenants", create)
        .await;
    let listed = client.get("/tenants").await;
    edit(&app, "nordic", json!({ "status": "active" })).await;
    let back = read("/partner/tenants/demo").await;

    let forbidden = "403 forbidden";
    assert_eq!(
        after,
        [forbidden, forbidden, forbidden, forbidden, "404 not_found"]
    );
    assert_eq!(created.summary(), forbidden);
    assert_eq!(listed.body["items"], json!([]));
    assert_eq!(back, "200");
}

#[tokio::test]
async fn detaching_a_tenant_ends_staff_access_on_the_next_request() {
    let app = TestApp::with_personas().await;
    let client = app.client(Persona::PartnerOwner);
    let read = async || client.get("/partner/tenants/demo").await.summary();
    assert_eq!(read().await, "200");

    attach(&app, "demo", Value::Null).await;

    assert_eq!(read().await, "404 not_found");
}

#[tokio::test]
async fn partner_and_tenant_slugs_are_separate_namespaces() {
    let app = TestApp::with_operator().await;
    app.insert_partner("nordic", "active").await;

    let reply = app.operator().get("/tenants/nordic").await;

    assert_eq!(reply.summary(), "404 not_found");
}
