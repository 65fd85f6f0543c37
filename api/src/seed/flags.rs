//! Built-in feature flags.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    feature_flag::{Flag, NEW_BILLING_ENGINE},
    store::{StoreError, TransactionError, VersionedRepository as _, duplicate_key_index},
};
use futures::FutureExt as _;

use crate::state::AppState;

/// Creates missing flags. Safe to run in several processes at once.
pub(super) async fn seed(app: &AppState) -> Result<(), StoreError> {
    if app
        .db
        .flags
        .find(NEW_BILLING_ENGINE.to_owned())
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
                app.db.flags.bump_revision(session).await?;
                app.db.flags.insert(session, &flag).await?;
                app.db.audit.record(session, &defined(&flag, now)).await?;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        })
        .await;
    match seeded {
        Ok(()) => Ok(()),
        // Another process has inserted it concurrently.
        Err(TransactionError::Store(error)) if duplicate_key_index(&error).is_some() => Ok(()),
        Err(TransactionError::Store(error) | TransactionError::Aborted(error)) => Err(error),
    }
}

fn new_billing_engine(now: DateTime) -> Flag {
    Flag {
        key: NEW_BILLING_ENGINE.to_owned(),
        description: "Create invoices with the new billing engine.".to_owned(),
        default: false,
        rules: Vec::new(),
        kill_switch: false,
        revision: 1,
        created_at: now,
        updated_at: now,
    }
}

fn defined(flag: &Flag, now: DateTime) -> AuditEvent {
    let target = Target::new("flag", &flag.key, &flag.key);
    let (system, origin) = (Actor::system(), Origin::default());
    AuditEvent::new(now, system, Action::FlagCreate, target, origin)
}
