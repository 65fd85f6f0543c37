//! The feature flags that the service itself asks for.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    flag::{Flag, NEW_BILLING_ENGINE},
    store::{Abort, StoreError, violated_index},
};
use futures::FutureExt as _;

use crate::state::AppState;

/// Makes sure that they are there. Any number of processes may do so at once.
pub(super) async fn seed(app: &AppState) -> Result<(), StoreError> {
    if app.stored_flags.find(NEW_BILLING_ENGINE).await?.is_some() {
        return Ok(());
    }
    let seeded = app
        .store
        .transaction(app, |session, app| {
            async move {
                let now = app.store.now();
                let flag = new_billing_engine(now);
                app.stored_flags.note_write(session).await?;
                app.stored_flags.insert(session, &flag).await?;
                app.audit.record(session, &defined(&flag, now)).await?;
                Ok::<_, Abort<StoreError>>(())
            }
            .boxed()
        })
        .await;
    match seeded {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(Abort::Store(error)) if violated_index(&error).is_some() => Ok(()),
        Err(Abort::Store(error) | Abort::Because(error)) => Err(error),
    }
}

fn new_billing_engine(now: DateTime) -> Flag {
    Flag {
        key: NEW_BILLING_ENGINE.to_owned(),
        description: "Invoices are made by this service, and not by the one before it.".to_owned(),
        default: false,
        rules: Vec::new(),
        kill_switch: false,
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

fn defined(flag: &Flag, now: DateTime) -> AuditEvent {
    let target = Target {
        kind: "flag".to_owned(),
        id: flag.key.clone(),
        name: flag.key.clone(),
    };
    let (system, origin) = (Actor::system(), Origin::default());
    AuditEvent::new(now, system, Action::FlagCreate, target, origin)
}
