//! Looking at a domain's public DNS: whose it is first, then everything that should be there.

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
    },
    store::StoreError,
    tenant::{DesiredState, Tenant, TenantStatus, reason as tenant_reason},
    upstream::Upstream,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{audit, claim_of, enqueue, next_check::spread, reason, status};
use crate::{
    dns::Expectation,
    jobs::tenant::tenant_of,
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

/// Over how long those are spread who wait because their zone was asked enough.
const TURNS: Duration = Duration::from_secs(30);

/// Looks, and writes what it found into the claim.
pub(super) async fn recheck(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (_, intent) = tenant_of(&run)?;
    let Some(verifier) = &run.ctx.clients.dns else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(claim) = claim_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::CLAIM_GONE));
    };
    if claim.removing {
        return Ok(StepSuccess::skipped(reason::REMOVING));
    }
    if intent == DesiredState::Gone {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }
    if let Err(wait) = run.ctx.zones.take(&claim.name) {
        // No failure, and nobody's fault: all who wait for the zone come at times of their own.
        let wait = wait + spread(claim.id, TURNS);
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
        // The proof is needed once, or never: nobody is asked to publish it again.
        checks.retain(|check| check.kind != CheckKind::Ownership || check.state == CheckState::Ok);
    }
    let jobs = run
        .fenced_transaction((&run, claim, checks), |session, (run, claim, checks)| {
            note(run, session, claim, checks, run.ctx.store.now()).boxed()
        })
        .await?;
    run.ctx.ready.notify(&jobs).await;
    Ok(StepSuccess::ok(
        reason::CHECKED,
        Vec::new(),
        UpstreamRefs::default(),
    ))
}

/// Writes what was found into the claim, and gives the domain to the first tenant that proves it.
async fn note(
    run: &StepContext,
    session: &mut ClientSession,
    looked_at: &Domain,
    checks: &[Check],
    now: DateTime,
) -> Result<Vec<Job>, StoreError> {
    let ctx = &run.ctx;
    // Whoever changes what a tenant owns locks the tenant first.
    let mut tenant = if !looked_at.is_owned() && is_proven(checks) {
        ctx.tenants
            .find_for_update(session, looked_at.tenant_id)
            .await?
    } else {
        None
    };
    let domain = ctx.domains.find_for_update(session, looked_at.id).await?;
    // Who changed what is expected asked for another look.
    let domain = domain
        .filter(|domain| !domain.removing && domain.expected_since == looked_at.expected_since);
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
        // One that is to be purged, or was, gets nothing more. Once it is restored, the next look finds the proof.
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
        status::note(&mut domain, checks.to_vec(), now);
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

/// Makes the domain the tenant's own. The mail server hears of it with the tenant, so that the tenant says how that
/// goes, and by itself, so that no other domain of the tenant is in its way.
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
    Ok(vec![
        enqueue(ctx, session, &ProvisionTenant { tenant_id }).await?,
        enqueue(ctx, session, &provision_domain).await?,
    ])
}
