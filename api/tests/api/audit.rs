//! Audit trail as seen by callers. The worker's tests cover periodic sealing; here the tests seal explicitly.

mod export;
mod listing;
mod recording;
mod verifying;

use crate::app::TestApp;
use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, ActorKind, AuditEvent, Origin, Target},
    id::TenantId,
    store::TransactionError,
};
use futures::FutureExt as _;

/// An event by a member of `tenant`, at this time in milliseconds.
pub(crate) fn event(tenant: Option<TenantId>, at: i64) -> AuditEvent {
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

/// Records events in transactions, as the API does.
pub(crate) async fn record(app: &TestApp, events: &[AuditEvent]) {
    // Small batches, because transactions have a short lifetime limit.
    for batch in events.chunks(200) {
        let recorded: Result<(), TransactionError<()>> = app
            .state
            .store
            .transaction((&app.state, batch), |session, (app, events)| {
                async move {
                    for event in *events {
                        app.db.audit.record(session, event).await?;
                    }
                    Ok(())
                }
                .boxed()
            })
            .await;
        recorded.unwrap();
    }
}

/// Seals all unsealed events of a trail.
pub(crate) async fn seal(app: &TestApp, tenant: Option<TenantId>) {
    while app.state.db.audit.seal(&[tenant]).await.unwrap() != Some(Vec::new()) {}
}

/// Modifies a stored event directly in the database.
pub(crate) async fn tamper(app: &TestApp, seq: i64, set: Document) {
    let events = app.collection("audit_events");
    let change = doc! { "$set": set };
    let changed = events.update_one(doc! { "seq": seq }, change).await;
    assert_eq!(changed.unwrap().modified_count, 1);
}
