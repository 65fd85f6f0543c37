//! The audit trail, as callers see it. That it is sealed in time is the worker's to do; here it is sealed by hand.

mod export;
mod listing;
mod recording;
mod verifying;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent, Origin, Target},
    id::TenantId,
    store::TransactionError,
};
use dezky_sim::callers::Caller;
use futures::FutureExt as _;
use serde_json::Value;

use crate::app::{Reply, TestApp};

/// An event of somebody of `tenant`, at this time.
fn event(tenant: Option<TenantId>, at: i64) -> AuditEvent {
    let actor = Actor {
        id: "1".to_owned(),
        name: Some("Ada Ask".to_owned()),
        email: Some("ada@acme.test".to_owned()),
        kind: ActorKind::Tenant,
        audience: vec!["dezky-portal".to_owned()],
    };
    let target = Target {
        kind: "domain".to_owned(),
        id: "2".to_owned(),
        name: "acme.example".to_owned(),
    };
    let origin = Origin {
        request_id: None,
        ip: Some("203.0.113.9".to_owned()),
        user_agent: Some("curl".to_owned()),
    };
    let at = DateTime::from_millis(at);
    let mut event = AuditEvent::new(at, actor, Action::DomainUpdate, target, origin);
    event.tenant_id = tenant;
    event
}

/// Records events as they are recorded.
async fn record(app: &TestApp, events: &[AuditEvent]) {
    // A transaction has little time.
    for some in events.chunks(200) {
        let recorded: Result<(), TransactionError<()>> = app
            .state
            .store
            .transaction((&app.state, some), |session, (app, events)| {
                async move {
                    for event in *events {
                        app.audit.record(session, event).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await;
        recorded.unwrap();
    }
}

/// Seals all that a trail has.
async fn seal(app: &TestApp, tenant: Option<TenantId>) {
    while app.state.audit.seal(&[tenant]).await.unwrap() != Some(Vec::new()) {}
}

async fn get(app: &TestApp, path: &str, caller: Caller) -> Reply {
    app.get(path).by(caller).send().await
}

/// The members of this name of what is listed.
fn listed<'a>(reply: &'a Reply, pointer: &str) -> Vec<&'a str> {
    let items = reply.body["items"].as_array().expect("a list").iter();
    let text = |item: &'a Value| item.pointer(pointer).and_then(Value::as_str);
    items.map(|item| text(item).unwrap_or("-")).collect()
}

/// Writes to an event past the service, as only somebody who should not can.
async fn tamper(app: &TestApp, seq: i64, set: Document) {
    let events = app.collection("audit_events");
    let change = doc! { "$set": set };
    let changed = events.update_one(doc! { "seq": seq }, change).await;
    assert_eq!(changed.unwrap().modified_count, 1);
}
