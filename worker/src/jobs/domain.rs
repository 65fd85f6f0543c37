//! A tenant's mail domain: made once it is owned, compared with the public DNS again and again, and taken away.
//!
//! What is to be is read from the claim's document when a job runs; the kind only says why. Every write to it goes
//! through [`StepContext::write`], so that whoever lost the job's lease writes nothing.

mod enqueue_due;
mod expected_records;
mod next_check;
mod provision;
mod recheck;
mod remove;
mod status;

use std::collections::BTreeSet;

use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    domain::Domain,
    id::{DomainId, TenantId},
    queue::{
        args::{ProvisionDomain, RemoveDomain},
        error_code::ErrorCode,
        job::{Job, JobArgs},
    },
    store::{StoreError, jobs::NewJob},
    upstream::{MAIL_DOMAIN, Upstream},
};
use futures::FutureExt as _;
use mongodb::ClientSession;
use serde::Deserialize;

use crate::{
    context::Context,
    steps::{StepContext, StepFailure, Steps},
};

/// Making a domain in the mail server, and learning which records it needs. A change of its DMARC policy is the same.
pub(super) fn provision() -> Steps {
    Steps::parallel().partial(Upstream::Stalwart, MAIL_DOMAIN, provision::converge)
}

/// Taking a domain away from the mail server, and then the claim.
pub(super) fn remove() -> Steps {
    Steps::parallel().partial(Upstream::Stalwart, MAIL_DOMAIN, remove::converge)
}

/// Looking at a domain's public DNS.
pub(super) fn recheck() -> Steps {
    Steps::parallel().step("dns", recheck::recheck)
}

/// Asking for a look at every domain whose time has come.
pub(super) fn recheck_due() -> Steps {
    Steps::parallel().step("enqueue", enqueue_due::enqueue_due)
}

/// Why there is nothing to do for a claim.
mod reason {
    /// There is no such claim any more.
    pub(super) const CLAIM_GONE: &str = "ClaimGone";
    /// Nobody has proven that it is the tenant's.
    pub(super) const NOT_OWNED: &str = "NotOwned";
    /// It is about to be removed.
    pub(super) const REMOVING: &str = "Removing";
    /// Somebody decided that it stays.
    pub(super) const KEPT: &str = "Kept";
    /// The DNS was looked at.
    pub(super) const CHECKED: &str = "Checked";
    /// Looks at the DNS were asked for.
    pub(super) const ENQUEUED: &str = "Enqueued";
}

/// The types of a domain's conditions.
mod condition {
    /// The mail server serves it.
    pub(super) const PROVISIONED: &str = "Provisioned";
    /// Its DNS says what it should.
    pub(super) const DNS_IN_ORDER: &str = "DnsInOrder";
    /// Nothing keeps it from being removed. There only once somebody tried.
    pub(super) const REMOVABLE: &str = "Removable";
}

/// The claim that a job is about, as it is now.
async fn claim_of(run: &StepContext) -> Result<Option<Domain>, StepFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct About {
        domain_id: DomainId,
    }
    let about: About = run
        .job
        .args()
        .map_err(|error| StepFailure::new(ErrorCode::Internal, error.to_string()))?;
    Ok(run.ctx.domains.find(about.domain_id).await?)
}

/// Which of the tenant's domains are on their way out.
pub(super) async fn names_removing(
    run: &StepContext,
    tenant_id: TenantId,
) -> Result<BTreeSet<String>, StepFailure> {
    let claims = run.ctx.domains.list_owned(tenant_id).await?;
    let removing = claims.into_iter().filter(|claim| claim.removing);
    Ok(removing.map(|claim| claim.name).collect())
}

/// Has the mail server asked again which records each of the tenant's domains needs: one that was made anew has other
/// keys, and keys change with time. What was to be removed and is still there is tried again.
pub(super) async fn refresh_all(run: &StepContext, tenant_id: TenantId) -> Result<(), StepFailure> {
    let claims = run.ctx.domains.list_owned(tenant_id).await?;
    if claims.is_empty() {
        return Ok(());
    }
    let jobs = run
        .fenced_transaction((run, claims), |session, (run, claims)| {
            async move {
                let mut jobs = Vec::new();
                for claim in &*claims {
                    let (tenant_id, domain_id) = (claim.tenant_id, claim.id);
                    jobs.push(if claim.removing {
                        let remove = RemoveDomain {
                            tenant_id,
                            domain_id,
                        };
                        enqueue(&run.ctx, session, &remove).await?
                    } else {
                        let provision = ProvisionDomain {
                            tenant_id,
                            domain_id,
                        };
                        enqueue(&run.ctx, session, &provision).await?
                    });
                }
                Ok(jobs)
            }
            .boxed()
        })
        .await?;
    run.ctx.ready.notify(&jobs).await;
    Ok(())
}

/// Adds to the audit trail what a job found out about a claim, or did with it.
async fn audit(
    run: &StepContext,
    session: &mut ClientSession,
    action: Action,
    domain: &Domain,
) -> Result<(), StoreError> {
    run.ctx
        .audit
        .record(session, &event(run, action, domain))
        .await
}

/// An event of a job about a claim.
fn event(run: &StepContext, action: Action, domain: &Domain) -> AuditEvent {
    let target = Target {
        kind: "domain".to_owned(),
        id: domain.id.to_string(),
        name: domain.name.clone(),
    };
    let now = run.ctx.store.now();
    let mut event = AuditEvent::new(now, Actor::system(), action, target, Origin::default());
    event.tenant_id = Some(domain.tenant_id);
    event.job_id = Some(run.job.id);
    event
}

/// Enqueues what follows from a step. After the commit, tell the ready set.
async fn enqueue<A: JobArgs>(
    ctx: &Context,
    session: &mut ClientSession,
    args: &A,
) -> Result<Job, StoreError> {
    let new = NewJob::new(args, "system", ctx.store.now())?;
    ctx.jobs.enqueue(session, &new).await
}
