//! Tenant in Stalwart: the mail domains and access to their mailboxes.

use dezky_shared::tenant::{DesiredState, Tenant, reason};
use dezky_upstreams::clients::{
    ClientError,
    stalwart::{Access, Domain, Stalwart},
};

use super::{applies, converged_reason, tenant_of};
use crate::{
    jobs::{domain, partial_failure::PartialFailures},
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

/// Converges the domains and their mailboxes to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.stalwart else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    if tenant.domains.is_empty() && tenant.former_domains.is_empty() {
        let reason = if intent == DesiredState::Gone {
            reason::REMOVED
        } else {
            reason::NO_DOMAIN
        };
        let mut done = StepSuccess::skipped(reason);
        done.refs.stalwart_domain = Some(None);
        return Ok(done);
    }
    let client = client.with_deadline(&run.trust);
    match intent {
        DesiredState::Gone => remove(&run, &client, tenant).await,
        DesiredState::Active | DesiredState::Suspended => {
            provision(&run, &client, tenant, intent).await
        }
    }
}

async fn provision(
    run: &StepContext,
    client: &Stalwart,
    tenant: &Tenant,
    intent: DesiredState,
) -> Result<StepSuccess, StepFailure> {
    let id = tenant.id.to_string();
    let mut changes = Vec::new();
    let mut failures = PartialFailures::default();
    let mut served = Vec::new();
    let removing = domain::names_removing(run, tenant.id).await?;
    for name in &tenant.domains {
        if removing.contains(name) {
            // Its own job removes it. Until then its mailboxes follow the tenant's state.
            let kept = client.find_domain(name).await?;
            served.extend(kept.filter(|domain| domain.belongs_to(&id)));
            continue;
        }
        let ensured = client.ensure_domain(name, &id, run.mode).await;
        if let Some(ensured) = failures.capture(ensured)? {
            changes.extend(ensured.changes);
            served.extend(ensured.value);
        }
    }
    let mut removed_domains = Vec::new();
    for name in &tenant.former_domains {
        let removed = client.remove_domain(name, &id, run.mode).await;
        if matches!(removed, Err(ClientError::UserAction { .. })) {
            // Still in use: its mailboxes follow the tenant's state.
            let kept = client.find_domain(name).await?;
            served.extend(kept.filter(|domain| domain.belongs_to(&id)));
        }
        if let Some(removed) = failures.capture(removed)? {
            changes.extend(removed.changes);
            removed_domains.push(name.clone());
        }
    }
    if applies(run.mode) {
        domain::refresh_all(run, tenant.id).await?;
    }
    for domain in &served {
        set_access(run, client, domain, intent, &mut changes, &mut failures).await?;
    }
    failures.finish()?;
    let refs = UpstreamRefs {
        stalwart_domain: Some(tenant.domains.first().cloned()),
        removed_domains,
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(converged_reason(intent), changes, refs))
}

/// Freezes the mailboxes of a domain, or unfreezes those that a suspension froze.
async fn set_access(
    run: &StepContext,
    client: &Stalwart,
    domain: &Domain,
    intent: DesiredState,
    changes: &mut Vec<String>,
    failures: &mut PartialFailures,
) -> Result<(), StepFailure> {
    for account in client.list_accounts(&domain.id).await? {
        let ensured = match (intent, account.access) {
            (DesiredState::Suspended, Access::Open) => {
                client.freeze_account(&account, run.mode).await
            }
            (DesiredState::Active, Access::Frozen) => {
                client.unfreeze_account(&account, run.mode).await
            }
            _ => continue,
        };
        if let Some(ensured) = failures.capture(ensured)? {
            changes.extend(ensured.changes);
        }
    }
    Ok(())
}

async fn remove(
    run: &StepContext,
    client: &Stalwart,
    tenant: &Tenant,
) -> Result<StepSuccess, StepFailure> {
    let id = tenant.id.to_string();
    let mut changes = Vec::new();
    let mut failures = PartialFailures::default();
    for name in tenant.domains.iter().chain(&tenant.former_domains) {
        let purged = client.purge_domain(name, &id, run.mode).await;
        if let Some(purged) = failures.capture(purged)? {
            changes.extend(purged.changes);
        }
    }
    failures.finish()?;
    let refs = UpstreamRefs {
        stalwart_domain: Some(None),
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(reason::REMOVED, changes, refs))
}
