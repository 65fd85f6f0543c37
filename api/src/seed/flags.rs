//! The feature flags that the service itself asks for.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    feature_flag::{Flag, NEW_BILLING_ENGINE},
    store::{StoreError, TransactionError, duplicate_key_index},
};
use futures::FutureExt as _;

use crate::state::AppState;

/// Makes sure that they are there. Any number of processes may do so at once.
pub(super) async fn seed(app: &AppState) -> Result<(), StoreError> {
    if app
        .flag_repository
        .find(NEW_BILLING_ENGINE)
        .await?
        .is_some()
    {
        return Ok(());
    }
    let seeded = app
        .store
        .transaction(app, |session, app| {
            async move {
                let now = app.store.now();
                let flag = new_billing_engine(now);
                app.flag_repository.bump_revision(session).await?;
                app.flag_repository.insert(session, &flag).await?;
                app.audit.record(session, &defined(&flag, now)).await?;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        })
        .await;
    match seeded {
        Ok(()) => Ok(()),
        // Another process was faster.
        Err(TransactionError::Store(error)) if duplicate_key_index(&error).is_some() => Ok(()),
        Err(TransactionError::Store(error) | TransactionError::Aborted(error)) => Err(error),
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
