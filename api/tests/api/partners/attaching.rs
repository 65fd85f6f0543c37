//! Which partner looks after a tenant, and what ends with a partner.

use std::{sync::Arc, time::Duration};

use dezky_shared::{
    id::PartnerId,
    partner::{Partner, PartnerStatus},
    store::{StoreError, TransactionError},
};
use dezky_sim::callers::Caller;
use futures::FutureExt as _;
use http::Method;
use serde_json::{Value, json};
use tokio::sync::Notify;

use super::{ask, edit, errors, operator, partner, terminate};
use crate::{
    app::{Reply, TestApp},
    everyone::Who,
};

/// How long a request is watched that must not be answered yet.
const A_WHILE: Duration = Duration::from_millis(300);

async fn attach(app: &TestApp, slug: &str, partner: Value) -> Reply {
    let call = app.patch(&format!("/tenants/{slug}")).by(Caller::Operator);
    call.json(&json!({ "partnerId": partner })).send().await
}

#[tokio::test]
async fn a_tenant_is_attached_to_a_partner_and_detached() {
    let app = TestApp::with_demo().await;
    let nordic = app.insert_partner("nordic", "active").await;

    let attached = attach(&app, "demo", json!(nordic)).await;
    let created = app
        .post("/tenants")
        .by(Caller::Operator)
        .json(&json!({ "slug": "acme", "name": "Acme", "partnerId": nordic }))
        .send()
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
async fn only_a_partner_that_is_there_looks_after_a_tenant() {
    let app = TestApp::with_demo().await;
    let former = app.insert_partner("former", "terminated").await;
    let before = app.tenant("demo").await;

    for (id, code) in [
        (PartnerId::new(), "unknown_partner"),
        (former, "partner_terminated"),
    ] {
        let attached = attach(&app, "demo", json!(id)).await;
        let created = app
            .post("/tenants")
            .by(Caller::Operator)
            .json(&json!({ "slug": "acme", "name": "Acme", "partnerId": id }))
            .send()
            .await;

        for reply in [attached, created] {
            assert_eq!(reply.summary(), "422 validation_failed");
            assert_eq!(errors(&reply), [("/partnerId", code)]);
        }
    }
    assert_eq!(app.tenant("demo").await, before);
    assert_eq!(app.count("tenants").await, 1);
}

#[tokio::test]
async fn a_tenant_of_a_terminated_partner_can_be_edited_and_moved() {
    let app = TestApp::with_demo().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let elsewhere = app.insert_partner("elsewhere", "active").await;
    attach(&app, "demo", json!(nordic)).await;
    terminate(&app, "nordic").await;

    let same = attach(&app, "demo", json!(nordic)).await;
    let renamed = app
        .patch("/tenants/demo")
        .by(Caller::Operator)
        .json(&json!({ "industry": "anvils" }))
        .send()
        .await;
    let moved = attach(&app, "demo", json!(elsewhere)).await;

    let summaries = [same, renamed, moved].map(|reply| reply.summary());
    assert_eq!(summaries, ["200", "200", "200"]);
    assert_eq!(app.tenant("demo").await.partner_id, Some(elsewhere));
}

#[tokio::test]
async fn a_partner_that_is_being_terminated_gets_no_tenant_any_more() {
    let app = TestApp::with_demo().await;
    let nordic = app.insert_partner("nordic", "active").await;
    let (begun, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let context = (app.state.partners.clone(), begun.clone(), go_on.clone());
    let ending = app
        .state
        .store
        .transaction(context, |session, (partners, begun, go_on)| {
            async move {
                let partner = partners.find_for_update(session, nordic).await?.unwrap();
                let partner = Partner {
                    status: PartnerStatus::Terminated,
                    ..partner
                };
                partners.save(session, &partner).await?;
                begun.notify_one();
                go_on.notified().await;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        });
    let attaching = async {
        begun.notified().await;
        let mut attached = Box::pin(attach(&app, "demo", json!(nordic)));
        let early = tokio::time::timeout(A_WHILE, &mut attached).await;
        go_on.notify_one();
        assert!(early.is_err(), "{early:?}");
        attached.await
    };

    let (ended, attached) = tokio::join!(ending, attaching);

    ended.unwrap();
    assert_eq!(errors(&attached), [("/partnerId", "partner_terminated")]);
    assert_eq!(app.tenant("demo").await.partner_id, None);
}

#[tokio::test]
async fn a_termination_and_an_attachment_at_once_both_have_an_answer() {
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
            assert_eq!(errors(&attached), [("/partnerId", "partner_terminated")]);
            assert_eq!(kept, None);
        }
    }
}

#[tokio::test]
async fn staff_of_a_terminated_partner_are_refused_on_the_very_next_request() {
    let app = TestApp::with_everyone().await;
    let token = app.token(&Who::PartnerOwner.token().unwrap());
    let look = async |path: &str| app.get(path).token(&token).send().await.summary();
    let paths = [
        "/partner",
        "/partner/tenants",
        "/partner/tenants/demo",
        "/partner/settings",
        "/tenants/demo",
    ];
    for path in paths {
        assert_eq!(look(path).await, "200", "{path}");
    }

    terminate(&app, "nordic").await;
    let mut after = Vec::new();
    for path in paths {
        after.push(look(path).await);
    }
    let create = json!({ "slug": "acme", "name": "Acme" });
    let created = ask(
        &app,
        Who::PartnerOwner,
        Method::POST,
        "/partner/tenants",
        Some(create),
    )
    .await;
    let listed = app.get("/tenants").token(&token).send().await;
    edit(&app, "nordic", json!({ "status": "active" })).await;
    let back = look("/partner/tenants/demo").await;

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
async fn a_tenant_that_is_detached_is_lost_to_staff_on_the_very_next_request() {
    let app = TestApp::with_everyone().await;
    let token = app.token(&Who::PartnerOwner.token().unwrap());
    let look = async || {
        let call = app.get("/partner/tenants/demo").token(&token);
        call.send().await.summary()
    };
    assert_eq!(look().await, "200");

    attach(&app, "demo", Value::Null).await;

    assert_eq!(look().await, "404 not_found");
}

#[tokio::test]
async fn a_partners_slug_is_no_tenants_and_the_other_way_round() {
    let app = operator().await;
    app.insert_partner("nordic", "active").await;

    let reply = app.get("/tenants/nordic").by(Caller::Operator).send().await;

    assert_eq!(reply.summary(), "404 not_found");
}
