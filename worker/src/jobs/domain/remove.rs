//! Taking a domain away from the mail server, and then the claim.
//!
//! Mailboxes are made under the tenant's lock, which this job holds. Whoever makes one past us is met by the server,
//! which destroys no domain that anything depends on: the domain stays then, and so does the claim.

use dezky_shared::{
    clients::ClientError,
    domain::Domain,
    failure::ErrorCode,
    jobs::ProvisionDomain,
    tenant::{ConditionStatus, reason as tenant_reason},
};
use futures::FutureExt as _;

use super::{claim_of, condition, enqueue, findings::set_condition, reason};
use crate::work::{Facts, StepDone, StepFailure, StepRun};

/// Removes a domain that nobody uses; one in use is the tenant's again, and says who uses it.
pub(super) async fn converge(run: StepRun) -> Result<StepDone, StepFailure> {
    let Some(claim) = claim_of(&run).await? else {
        return Ok(StepDone::skipped(reason::CLAIM_GONE));
    };
    if !claim.removing {
        return Ok(StepDone::skipped(reason::KEPT));
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
    let done = StepDone::ok(tenant_reason::REMOVED, changes, Facts::default());
    Ok(done)
}

/// Takes the removal back. The domain's keys may be gone already, so it is provisioned again.
async fn keep(run: &StepRun, claim: &Domain, users: &str) -> Result<(), StepFailure> {
    let message = format!("It is still used by {users}. Remove them first, then try again.");
    let job = run
        .write((run, claim, message), |session, (run, claim, message)| {
            async move {
                let ctx = &run.ctx;
                let now = ctx.store.now();
                let Some(mut domain) = ctx.domains.lock(session, claim.id).await? else {
                    return Ok(None);
                };
                domain.removing = false;
                domain.next_check_at = Some(now);
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
                let provision = ProvisionDomain {
                    tenant_id: claim.tenant_id,
                    domain_id: claim.id,
                };
                Ok(Some(enqueue(ctx, session, &provision).await?))
            }
            .boxed()
        })
        .await?;
    run.ctx.ready.announce(job.as_slice()).await;
    Ok(())
}

/// Removes the claim, and the name from what the tenant owns. Whoever else claims it may prove it now.
async fn forget(run: &StepRun, claim: &Domain) -> Result<(), StepFailure> {
    run.write((run, claim), |session, (run, claim)| {
        async move {
            let ctx = &run.ctx;
            let now = ctx.store.now();
            let Some(mut tenant) = ctx.tenants.lock(session, claim.tenant_id).await? else {
                return Ok(());
            };
            let Some(domain) = ctx.domains.lock(session, claim.id).await? else {
                return ctx.tenants.unlock(session, tenant.id).await;
            };
            ctx.domains.remove(session, &domain, &mut tenant).await?;
            if tenant.stalwart_domain.as_ref() == Some(&domain.name) {
                tenant.stalwart_domain = tenant.domains.first().cloned();
            }
            tenant.updated_at = now;
            ctx.tenants.save(session, &tenant).await?;
            if domain.is_owned() {
                ctx.domains
                    .check_others(session, &[domain.name], now)
                    .await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}
