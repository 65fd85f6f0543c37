//! Taking a domain away from the mail server, and then the claim.
//!
//! Mailboxes are made under the tenant's lock, which this job holds. Whoever makes one past us is met by the server,
//! which destroys no domain that anything depends on: the domain stays then, and so does the claim.

use bson::doc;
use dezky_shared::{
    audit::{Action, AuditEvent},
    domain::Domain,
    queue::{args::ProvisionDomain, error_code::ErrorCode, job::Job},
    store::StoreError,
    tenant::{ConditionStatus, reason as tenant_reason},
};
use dezky_upstreams::clients::ClientError;
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{audit, claim_of, condition, enqueue, event, reason, status::set_condition};
use crate::{
    context::Context,
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

/// Removes a domain that nobody uses; one in use says who uses it, and is the tenant's again unless an operator took
/// it away: then its removal is tried again with each change of the tenant and each reconcile.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(claim) = claim_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::CLAIM_GONE));
    };
    if !claim.removing {
        return Ok(StepSuccess::skipped(reason::KEPT));
    }
    let mut changes = Vec::new();
    if claim.is_owned()
        && let Some(client) = &run.ctx.clients.stalwart
    {
        let client = client.trusting(&run.trust);
        let tenant = claim.tenant_id.to_string();
        match client.remove_domain(&claim.name, &tenant, run.mode).await {
            Ok(removed) => changes = removed.changes,
            Err(ClientError::UserAction {
                call,
                code: ErrorCode::DomainInUse,
            }) => {
                keep(&run, &claim, &call.detail).await?;
                return Err(StepFailure::new(ErrorCode::DomainInUse, call.detail));
            }
            Err(error) => return Err(error.into()),
        }
    }
    forget(&run, &claim).await?;
    let done = StepSuccess::ok(tenant_reason::REMOVED, changes, UpstreamRefs::default());
    Ok(done)
}

/// Says who uses it, and takes the removal back. The domain's keys may be gone already, so it is provisioned again.
async fn keep(run: &StepContext, claim: &Domain, users: &str) -> Result<(), StepFailure> {
    let message = format!("It is still used by {users}. Remove them first, then try again.");
    let job = run
        .fenced_transaction((run, claim, message), |session, (run, claim, message)| {
            async move {
                let ctx = &run.ctx;
                let now = ctx.store.now();
                let Some(tenant) = ctx
                    .tenants
                    .find_for_update(session, claim.tenant_id)
                    .await?
                else {
                    return Ok(None);
                };
                ctx.tenants.unlock(session, tenant.id).await?;
                let Some(mut domain) = ctx.domains.find_for_update(session, claim.id).await? else {
                    return Ok(None);
                };
                let is_taken_away = !tenant.domains.contains(&domain.name);
                domain.removing = is_taken_away;
                if !is_taken_away {
                    domain.next_check_at = Some(now);
                }
                set_condition(
                    &mut domain,
                    condition::REMOVABLE,
                    ConditionStatus::False,
                    ErrorCode::DomainInUse.reason(),
                    message,
                    now,
                );
                domain.updated_at = now;
                ctx.domains.save(session, &domain).await?;
                if is_taken_away {
                    return Ok(None);
                }
                let event = AuditEvent {
                    before: doc! { "removing": true },
                    after: doc! { "removing": false },
                    ..event(run, Action::DomainUpdate, &domain)
                };
                ctx.audit.record(session, &event).await?;
                Ok(Some(provision(ctx, session, &domain).await?))
            }
            .boxed()
        })
        .await?;
    run.ctx.ready.notify(job.as_slice()).await;
    Ok(())
}

/// Removes the claim, and the name from what the tenant owns. Whoever else claims it may prove it now. One that was
/// put back in the meantime is made again.
async fn forget(run: &StepContext, claim: &Domain) -> Result<(), StepFailure> {
    let job = run
        .fenced_transaction((run, claim), |session, (run, claim)| {
            async move {
                let ctx = &run.ctx;
                let now = ctx.store.now();
                let Some(mut tenant) = ctx
                    .tenants
                    .find_for_update(session, claim.tenant_id)
                    .await?
                else {
                    return Ok(None);
                };
                let Some(domain) = ctx.domains.find_for_update(session, claim.id).await? else {
                    ctx.tenants.unlock(session, tenant.id).await?;
                    return Ok(None);
                };
                if !domain.removing {
                    ctx.tenants.unlock(session, tenant.id).await?;
                    return Ok(Some(provision(ctx, session, &domain).await?));
                }
                ctx.domains.remove(session, &domain, &mut tenant).await?;
                audit(run, session, Action::DomainRemoved, &domain).await?;
                if tenant.stalwart_domain.as_ref() == Some(&domain.name) {
                    tenant.stalwart_domain = tenant.domains.first().cloned();
                }
                tenant.updated_at = now;
                ctx.tenants.save(session, &tenant).await?;
                if domain.is_owned() {
                    ctx.domains
                        .recheck_competing_claims(session, &[domain.name], now)
                        .await?;
                }
                Ok(None)
            }
            .boxed()
        })
        .await?;
    run.ctx.ready.notify(job.as_slice()).await;
    Ok(())
}

async fn provision(
    ctx: &Context,
    session: &mut ClientSession,
    domain: &Domain,
) -> Result<Job, StoreError> {
    let args = ProvisionDomain {
        tenant_id: domain.tenant_id,
        domain_id: domain.id,
    };
    enqueue(ctx, session, &args).await
}
