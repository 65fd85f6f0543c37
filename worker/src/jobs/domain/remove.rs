//! Removal of a domain from the mail server, and then of its claim.
//!
//! Mailboxes are created under the tenant's lock, which this job holds. For mailboxes created outside this service, the
//! mail server refuses to destroy a domain in use: the domain and its claim are then kept.

use bson::doc;
use dezky_shared::{
    audit::{Action, AuditEvent},
    domain::Domain,
    queue::{args::ProvisionDomain, error_code::ErrorCode, job::Job},
    store::{StoreError, VersionedRepository as _},
    tenant::{ConditionStatus, reason as tenant_reason},
};
use dezky_upstreams::clients::{ClientError, stalwart::Stalwart};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{audit, claim_of, condition, enqueue, event, former, reason, status::set_condition};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Removes an unused domain. A domain in use is kept with a condition that lists its users, and its removal is revoked;
/// if an operator took it from the tenant, the removal is retried with each change of the tenant and each reconcile.
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
        let client = client.with_deadline(&run.deadline);
        match remove_upstream(&run, &client, &claim).await {
            Ok(removed) => changes = removed,
            Err(ClientError::UserAction {
                call,
                code: ErrorCode::DomainInUse,
            }) => {
                revoke(&run, &claim, &call.detail).await?;
                return Err(StepFailure::new(ErrorCode::DomainInUse, call.detail));
            }
            Err(error) => return Err(error.into()),
        }
    }
    remove_claim(&run, &claim).await?;
    let done = StepSuccess::ok(tenant_reason::REMOVED, changes);
    Ok(done)
}

/// Removes the domain from the mail server: the one of this name, or the stored one, which an operator may have renamed.
async fn remove_upstream(
    run: &StepContext,
    client: &Stalwart,
    claim: &Domain,
) -> Result<Vec<String>, ClientError> {
    let tenant = run.tenant().map(|target| &*target.tenant);
    let known = tenant.map_or(&[][..], |tenant| &tenant.mail_domains);
    let id = claim.tenant_id.to_string();
    let owned = client.list_domains(&id, known).await?;
    let domain = former(&claim.name, tenant, &owned);
    let Some(domain) = domain else {
        return Ok(Vec::new());
    };
    let removed = client.remove_domain(domain, &owned, run.mode).await?;
    Ok(removed.changes)
}

/// Revokes the removal and stores who uses the domain. Its keys may be removed already, so it is provisioned again.
async fn revoke(run: &StepContext, claim: &Domain, users: &str) -> Result<(), StepFailure> {
    let message =
        format!("The domain is still used by {users}. Remove them first, then try again.");
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
                Ok(Some(provision(run, session, &domain).await?))
            }
            .boxed()
        })
        .await?;
    run.ctx.ready.notify(job.as_slice()).await;
    Ok(())
}

/// Removes the claim and the tenant's ownership, and rechecks competing claims. If the removal was revoked meanwhile, the
/// domain is provisioned again.
async fn remove_claim(run: &StepContext, claim: &Domain) -> Result<(), StepFailure> {
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
                    return Ok(Some(provision(run, session, &domain).await?));
                }
                ctx.domains.remove(session, &domain, &mut tenant).await?;
                tenant
                    .mail_domains
                    .retain(|known| known.name != domain.name);
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
    run: &StepContext,
    session: &mut ClientSession,
    domain: &Domain,
) -> Result<Job, StoreError> {
    let args = ProvisionDomain {
        tenant_id: domain.tenant_id,
        domain_id: domain.id,
    };
    enqueue(run, session, &args).await
}
