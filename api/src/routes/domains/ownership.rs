//! Ownership of domains: backfill, lost claims, audit targets.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    domain::Domain,
    store::{StoreError, TransactionError, VersionedRepository as _},
    tenant::Tenant,
};
use futures::FutureExt as _;

use crate::{error::ApiError, state::AppState, write::CommandRunner};

/// Backfills the documents of a tenant's domains: tenants older than the collection lack them.
pub(in crate::routes) async fn backfill_domains(
    app: &AppState,
    tenant: &Tenant,
) -> Result<(), ApiError> {
    let owned = app.db.domains.count_owned(tenant.id).await?;
    if usize::try_from(owned).is_ok_and(|owned| owned >= tenant.domains.len()) {
        return Ok(());
    }
    let backfilled = app
        .store
        .transaction((app, tenant.id), |session, (app, id)| {
            async move {
                let (tenants, now) = (&app.db.tenants, app.store.now());
                let Some(before) = tenants.find_in_transaction(session, *id).await? else {
                    return Ok(());
                };
                let mut tenant = before.clone();
                app.db.domains.backfill(session, &mut tenant, now).await?;
                tenants
                    .save_changed(session, &before, &mut tenant, now)
                    .await?;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        })
        .await;
    match backfilled {
        Ok(()) => Ok(()),
        Err(TransactionError::Store(error) | TransactionError::Aborted(error)) => Err(error.into()),
    }
}

/// Audit events of the tenants that lost their claims to this change.
pub(in crate::routes) fn lost(
    runner: &CommandRunner<'_>,
    claims: &[Domain],
    now: DateTime,
) -> Vec<AuditEvent> {
    let events = claims.iter().map(|claim| AuditEvent {
        tenant_id: Some(claim.tenant_id),
        ..runner.event(now, Action::DomainLost, target(claim), None)
    });
    events.collect()
}

/// A domain as the target of an audit event.
pub(super) fn target(domain: &Domain) -> Target {
    Target::new("domain", domain.id, &domain.name)
}
