//! Check of a domain's public DNS: the ownership proof and the expected records.

use std::time::Duration;

use bson::DateTime;
use dezky_shared::{
    audit::Action,
    domain::{
        Domain, OWNED, OwnershipProof,
        check::{Check, CheckKind, CheckState},
        reason as domain_reason,
    },
    platform::clock,
    queue::{
        args::{ProvisionDomain, ProvisionTenant},
        job::Job,
        priority::Priority,
    },
    store::{StoreError, VersionedRepository as _},
    tenant::{DesiredState, Tenant, TenantStatus, reason as tenant_reason},
    upstream::Upstream,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{audit, claim_of, enqueue_in, next_check::spread, reason, status};
use crate::{
    dns::Expectation,
    jobs::tenant::tenant_of,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Window over which rechecks that exceed the rate limit of their zone are spread.
const RATE_LIMIT_SPREAD: Duration = Duration::from_secs(30);

/// Queries the DNS and stores the results in the claim.
pub(super) async fn recheck(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (_, desired_state) = tenant_of(&run)?;
    let Some(verifier) = &run.ctx.clients.dns else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(claim) = claim_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::CLAIM_GONE));
    };
    if claim.removing {
        return Ok(StepSuccess::skipped(reason::REMOVING));
    }
    if desired_state == DesiredState::Gone {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }
    if let Err(wait) = run.ctx.zones.acquire(&claim.name) {
        // Rate-limited, not failed. The spread avoids a burst when the limit resets.
        let wait = wait + spread(claim.id, RATE_LIMIT_SPREAD);
        return Ok(StepSuccess::continue_at(clock::later(
            run.ctx.store.now(),
            wait,
        )));
    }

    let expectation = Expectation {
        domain: claim.name.clone(),
        token: claim.token.clone(),
        records: claim.expected.clone(),
        dmarc: claim.dmarc.clone(),
        spf_include: run.ctx.clients.spf_include.clone(),
    };
    let mut checks = verifier.verify(&expectation).await;
    if claim.is_owned() {
        // Ownership is proven once: a missing record later is not reported.
        checks.retain(|check| check.kind != CheckKind::Ownership || check.state == CheckState::Ok);
    }
    let jobs = run
        .fenced_transaction((&run, claim, checks), |session, (run, claim, checks)| {
            save(run, session, claim, checks, run.ctx.store.now()).boxed()
        })
        .await?;
    run.ctx.ready.notify(&jobs).await;
    Ok(StepSuccess::ok(reason::CHECKED, Vec::new()))
}

/// Stores the results, and grants ownership to the first tenant that proves it.
async fn save(
    run: &StepContext,
    session: &mut ClientSession,
    checked: &Domain,
    checks: &[Check],
    now: DateTime,
) -> Result<Vec<Job>, StoreError> {
    let ctx = &run.ctx;
    // Lock order: the tenant before its domains.
    let mut tenant = if !checked.is_owned() && is_proven(checks) {
        ctx.tenants
            .find_for_update(session, checked.tenant_id)
            .await?
    } else {
        None
    };
    let domain = ctx.domains.find_for_update(session, checked.id).await?;
    // Results for outdated expectations are discarded: the change enqueued another recheck.
    let domain =
        domain.filter(|domain| !domain.removing && domain.expected_since == checked.expected_since);
    let Some(mut domain) = domain else {
        if let Some(tenant) = tenant {
            ctx.tenants.unlock(session, tenant.id).await?;
        }
        return Ok(Vec::new());
    };
    let is_taken = !domain.is_owned()
        && ctx
            .domains
            .find_owner(session, &domain.name)
            .await?
            .is_some();
    let mut jobs = Vec::new();
    match &mut tenant {
        // A terminating tenant gains no domain. After a restore, the next recheck finds the proof.
        Some(tenant) if is_taken || is_ending(tenant) => {
            ctx.tenants.unlock(session, tenant.id).await?;
        }
        Some(tenant) => jobs = grant_ownership(run, session, &mut domain, tenant, now).await?,
        None => {}
    }
    if is_taken {
        if !is_lost(&domain) {
            audit(run, session, Action::DomainLost, &domain).await?;
        }
        domain.mark_lost(now);
        domain.checks = checks.to_vec();
        domain.checked_at = Some(now);
        domain.updated_at = now;
    } else {
        status::apply_checks(&mut domain, checks.to_vec(), now);
    }
    ctx.domains.save(session, &domain).await?;
    Ok(jobs)
}

fn is_lost(claim: &Domain) -> bool {
    let mut conditions = claim.conditions.iter();
    conditions.any(|it| it.kind == OWNED && it.reason == domain_reason::TAKEN)
}

fn is_ending(tenant: &Tenant) -> bool {
    matches!(
        tenant.status,
        TenantStatus::Terminating | TenantStatus::Terminated
    )
}

fn is_proven(checks: &[Check]) -> bool {
    checks.iter().any(|check| {
        check.kind == CheckKind::Ownership
            && matches!(check.state, CheckState::Ok | CheckState::Warning)
    })
}

/// Grants the domain to the tenant and enqueues both the tenant's provisioning, which reports the tenant's status, and the
/// domain's own, which no other domain of the tenant can block.
async fn grant_ownership(
    run: &StepContext,
    session: &mut ClientSession,
    domain: &mut Domain,
    tenant: &mut Tenant,
    now: DateTime,
) -> Result<Vec<Job>, StoreError> {
    let ctx = &run.ctx;
    let proof = OwnershipProof::Proof;
    let lost = ctx
        .domains
        .grant(session, domain, tenant, proof, now)
        .await?;
    audit(run, session, Action::DomainProved, domain).await?;
    for claim in &lost {
        audit(run, session, Action::DomainLost, claim).await?;
    }
    tenant.set_pending(&[Upstream::Stalwart], now);
    tenant.updated_at = now;
    ctx.tenants.save(session, tenant).await?;
    let (tenant_id, domain_id) = (domain.tenant_id, domain.id);
    let provision_domain = ProvisionDomain {
        tenant_id,
        domain_id,
    };
    let provision_tenant = ProvisionTenant { tenant_id };
    // A customer waits for the domain, also where a scheduled check proved it.
    let lane = Priority::Interactive;
    Ok(vec![
        enqueue_in(run, session, &provision_tenant, lane).await?,
        enqueue_in(run, session, &provision_domain, lane).await?,
    ])
}
