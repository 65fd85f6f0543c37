//! Audit trail: events recorded by jobs, sealing, and retention.

mod append_only;
mod outcomes;
mod recording;
mod retention;
mod sealing;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    id::TenantId,
    store::{TransactionError, audit::Verification},
};
use futures::{FutureExt as _, TryStreamExt as _};

use crate::harness::Harness;

/// A system event of one trail at this time.
fn event(tenant: Option<TenantId>, at: DateTime) -> AuditEvent {
    let target = Target {
        kind: "job".to_owned(),
        id: "1".to_owned(),
        name: "job".to_owned(),
    };
    let (action, origin) = (Action::JobRequeue, Origin::default());
    let mut event = AuditEvent::new(at, Actor::system(), action, target, origin);
    event.tenant_id = tenant;
    event
}

impl Harness {
    /// Records `count` system events of one trail at this time.
    pub(crate) async fn record_events(&self, tenant: Option<TenantId>, count: usize, at: DateTime) {
        let events: Vec<AuditEvent> = (0..count).map(|_| event(tenant, at)).collect();
        self.record(&events).await;
    }

    /// Records events in transactions.
    pub(crate) async fn record(&self, events: &[AuditEvent]) {
        // In batches: transactions have a time limit.
        for some in events.chunks(200) {
            let recorded: Result<(), TransactionError<()>> = self
                .context
                .store
                .transaction((&self.context.audit, some), |session, (audit, events)| {
                    async move {
                        for event in *events {
                            audit.record(session, event).await?;
                        }
                        Ok(())
                    }
                    .boxed()
                })
                .await;
            recorded.unwrap();
        }
    }

    /// Verifies the hash chain of a trail.
    pub(crate) async fn verify(&self, tenant: Option<TenantId>) -> Verification {
        let audit = &self.context.audit;
        let chain = audit.find_chain(tenant).await.unwrap();
        audit.verify(chain).await.unwrap()
    }

    /// The events with this kind of target, oldest first.
    pub(crate) async fn events_about(&self, kind: &str) -> Vec<Document> {
        let events = self.context.store.collection("audit_events");
        let about = doc! { "target.kind": kind };
        let found = events.find(about).sort(doc! { "_id": 1 }).await.unwrap();
        found.try_collect().await.unwrap()
    }
}
