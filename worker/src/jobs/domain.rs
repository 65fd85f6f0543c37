//! Mail domains of a tenant: provisioned once owned, checked against public DNS periodically, and removed.
//!
//! A job reads the desired state from the claim's document when it runs; the kind only records the cause. Writes to the
//! claim go through [`StepContext::fenced_transaction`], so a worker that lost the lease writes nothing.

mod enqueue_due;
mod expected_records;
mod next_check;
mod provision;
mod recheck;
mod remove;
mod status;

use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    domain::{Domain, check::Record},
    id::DomainId,
    queue::{
        args::{ProvisionDomain, RemoveDomain},
        job::{Job, JobArgs},
        priority::Priority,
    },
    store::{StoreError, jobs::NewJob},
    tenant::{ConditionStatus, Tenant},
    upstream::{MAIL_DOMAIN, Upstream},
};
use dezky_upstreams::clients::stalwart::{DesiredDomain, Domain as MailServerDomain, POSTMASTER};
use futures::FutureExt as _;
use mongodb::ClientSession;
use serde::Deserialize;

use crate::{
    jobs::audit_event,
    steps::{StepContext, StepFailure, Steps},
};

/// Provisions a domain on the mail server and stores the DNS records it requires. Also applies a changed DMARC policy.
pub(super) fn provision() -> Steps {
    Steps::parallel().partial(Upstream::Stalwart, MAIL_DOMAIN, provision::converge)
}

/// Removes a domain from the mail server, then the claim.
pub(super) fn remove() -> Steps {
    Steps::parallel().partial(Upstream::Stalwart, MAIL_DOMAIN, remove::converge)
}

/// Checks a domain's public DNS.
pub(super) fn recheck() -> Steps {
    Steps::parallel().step("dns", recheck::recheck)
}

/// Enqueues a recheck for every due domain.
pub(super) fn recheck_due() -> Steps {
    Steps::parallel().step("enqueue", enqueue_due::enqueue_due)
}

/// Step results for a claim, stored as reasons.
mod reason {
    /// The claim was deleted.
    pub(super) const CLAIM_GONE: &str = "ClaimGone";
    /// Ownership is not proven.
    pub(super) const NOT_OWNED: &str = "NotOwned";
    /// The domain is being removed.
    pub(super) const REMOVING: &str = "Removing";
    /// The removal was revoked.
    pub(super) const KEPT: &str = "Kept";
    /// The DNS was checked.
    pub(super) const CHECKED: &str = "Checked";
    /// DNS checks were enqueued.
    pub(super) const ENQUEUED: &str = "Enqueued";
}

/// Condition types of a domain.
mod condition {
    /// The mail server serves the domain.
    pub(super) const PROVISIONED: &str = "Provisioned";
    /// The required DNS records are correct.
    pub(super) const DNS_IN_ORDER: &str = "DnsInOrder";
    /// The domain can be removed. Present only after a failed attempt.
    pub(super) const REMOVABLE: &str = "Removable";
}

/// The current claim of the job's arguments.
async fn claim_of(run: &StepContext) -> Result<Option<Domain>, StepFailure> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Args {
        domain_id: DomainId,
    }
    let args: Args = run.args()?;
    Ok(run.ctx.domains.find(args.domain_id).await?)
}

/// Desired state of a domain on the mail server, with the strings that it refers to.
pub(super) struct Desired<'a> {
    name: &'a str,
    tenant_id: String,
    known_id: Option<&'a str>,
    report_address: Option<&'a str>,
}

impl Desired<'_> {
    pub(super) fn as_ref(&self) -> DesiredDomain<'_> {
        DesiredDomain {
            name: self.name,
            tenant_id: &self.tenant_id,
            known_id: self.known_id,
            report_address: self.report_address,
        }
    }
}

/// Desired state of the tenant's domain `name`. Reports go to the address of its claim, or to its postmaster.
pub(super) fn desired<'a>(
    tenant: &'a Tenant,
    name: &'a str,
    claim: Option<&'a Domain>,
) -> Desired<'a> {
    Desired {
        name,
        tenant_id: tenant.id.to_string(),
        known_id: tenant.mail_domain_id(name),
        report_address: claim.map(|claim| claim.dmarc.rua.as_deref().unwrap_or(POSTMASTER)),
    }
}

/// The domain that the tenant releases under this name: the one of this name, or the stored one, which an operator may have
/// renamed. `owned` are the tenant's domains on the mail server.
pub(super) fn former<'a>(
    name: &str,
    tenant: Option<&Tenant>,
    owned: &'a [MailServerDomain],
) -> Option<&'a MailServerDomain> {
    let named = owned.iter().find(|domain| domain.name == name);
    named.or_else(|| {
        let tenant = tenant?;
        let id = tenant.mail_domain_id(name)?;
        let renamed = owned.iter().find(|domain| domain.id == id)?;
        // Under that name the tenant keeps it.
        (!tenant.domains.contains(&renamed.name)).then_some(renamed)
    })
}

/// Whether the mail server serves the domain, as of its last job.
pub(super) fn is_provisioned(claim: &Domain) -> bool {
    let mut conditions = claim.conditions.iter();
    conditions.any(|it| it.kind == condition::PROVISIONED && it.status == ConditionStatus::True)
}

/// Whether the claim lacks records of the mail server's zone file, such as the keys of a rotation.
pub(super) fn is_outdated(run: &StepContext, claim: &Domain, zone_file: &str) -> bool {
    claim.removing || !is_provisioned(claim) || expected_of(run, claim, zone_file) != claim.expected
}

/// Expected records of the claim, from the mail server's zone file.
fn expected_of(run: &StepContext, claim: &Domain, zone_file: &str) -> Vec<Record> {
    let spf_include = run.ctx.clients.spf_include.as_deref();
    expected_records::records(&claim.name, zone_file, &claim.dmarc, spf_include)
}

/// Enqueues a provisioning job for each of these claims, or the pending removal.
pub(super) async fn refresh(run: &StepContext, claims: Vec<Domain>) -> Result<(), StepFailure> {
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
                        enqueue(run, session, &remove).await?
                    } else {
                        let provision = ProvisionDomain {
                            tenant_id,
                            domain_id,
                        };
                        enqueue(run, session, &provision).await?
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

/// Records an audit event of the job about a claim.
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

/// Audit event of the job about a claim.
fn event(run: &StepContext, action: Action, domain: &Domain) -> AuditEvent {
    let target = Target::new("domain", domain.id, &domain.name);
    audit_event::event(
        action,
        target,
        Some(domain.tenant_id),
        run.job.id,
        run.ctx.store.now(),
    )
}

/// Enqueues a follow-up job, which is no more urgent than this one. Notify the ready set after the commit.
async fn enqueue<A: JobArgs>(
    run: &StepContext,
    session: &mut ClientSession,
    args: &A,
) -> Result<Job, StoreError> {
    let priority = A::PRIORITY.max(run.job.priority);
    enqueue_in(run, session, args, priority).await
}

/// Enqueues a follow-up job in this lane.
async fn enqueue_in<A: JobArgs>(
    run: &StepContext,
    session: &mut ClientSession,
    args: &A,
    priority: Priority,
) -> Result<Job, StoreError> {
    let new = NewJob::new(args, "system", run.ctx.store.now())?.with_priority(priority);
    run.ctx.jobs.enqueue(session, &new).await
}
