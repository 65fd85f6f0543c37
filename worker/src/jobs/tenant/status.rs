//! The tenant's status as jobs report it: provisioning state, conditions and upstream ids, written with the audit events
//! and the writes to users and domains that follow from them.

use std::sync::Arc;

use bson::DateTime;
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    id::TenantId,
    platform::change_feed::DocumentChange,
    queue::job::Job,
    store::{StoreError, VersionedRepository as _, is_undecodable},
    tenant::{DesiredState, PerUpstream, Tenant, TenantStatus},
    upstream::{MailDomain, Upstream},
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::{
    context::Context,
    jobs::{
        audit_event, billing,
        step_status::{self, StepStatus},
    },
    steps::{
        JobKind, Loaded, Registry, Reported, SinkFuture, StepContext, StepEnd, StepReport,
        StepSink, StepTarget, Targets,
    },
};

/// A tenant as loaded after the claim, with the state that the upstreams should converge to.
#[derive(Debug, Clone)]
pub struct TenantTarget {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// The desired state.
    pub desired_state: DesiredState,
}

impl StepTarget for TenantTarget {
    fn in_doubt_until(&self, upstream: Upstream) -> Option<DateTime> {
        if !upstream.is_provisioned() {
            return None;
        }
        *self.tenant.unknown_until.get(upstream)
    }

    fn changes(&self) -> Vec<DocumentChange> {
        vec![DocumentChange::Tenant(self.tenant.id)]
    }
}

impl StepContext {
    /// The tenant that the job concerns.
    pub fn tenant(&self) -> Option<&TenantTarget> {
        self.target()
    }
}

/// Kinds report to their tenant unless they name another sink.
impl Default for Registry {
    fn default() -> Self {
        Self::reporting_to(TenantSink)
    }
}

/// Reports step results to the job's tenant.
#[derive(Debug)]
pub(super) struct TenantSink;

impl StepSink for TenantSink {
    fn load<'a>(&'a self, ctx: &'a Context, job: &'a Job) -> SinkFuture<'a, Loaded> {
        async move {
            let Some(id) = job.tenant_id else {
                return Ok(Loaded::NoTarget);
            };
            // Its job completes without a tenant, so a stale primary must not decide that.
            let tenant = match ctx.tenants.find(id).await? {
                Some(tenant) => Some(tenant),
                None => ctx.tenants.confirm_missing(id).await?,
            };
            let Some(tenant) = tenant else {
                return Ok(Loaded::Missing);
            };
            // This process's estimate of MongoDB's clock may lag behind the reading that made the job due.
            let desired_state = tenant.desired_state(ctx.store.now().max(job.run_at));
            let tenant = Arc::new(tenant);
            Ok(Loaded::Target(Arc::new(TenantTarget {
                tenant,
                desired_state,
            })))
        }
        .boxed()
    }

    /// A dry run and a kind that calls no upstream leave the tenant as it is.
    fn is_reported(&self, job: &Job, kind: &JobKind) -> bool {
        job.reports_to_tenant() && kind.calls_upstreams()
    }

    fn report<'a>(
        &'a self,
        ctx: &'a Context,
        session: &'a mut ClientSession,
        report: StepReport<'a>,
        now: DateTime,
    ) -> SinkFuture<'a, Reported> {
        async move {
            let TenantTarget {
                tenant,
                desired_state,
            } = report.target()?;
            let current = match ctx.tenants.find_for_update(session, tenant.id).await {
                // A newer build wrote it: its workers report to it.
                Err(error) if is_undecodable(&error) => None,
                Ok(None) => return Ok(Reported::Outdated),
                current => current?,
            };
            // A job's own write to its tenant keeps the generation.
            let current = current.filter(|current| {
                current.generation == tenant.generation || current.desires_same_as(tenant)
            });
            let Some(mut current) = current else {
                ctx.tenants.unlock(session, tenant.id).await?;
                record_facts(ctx, session, tenant, report.ends).await?;
                return Ok(Reported::Outdated);
            };
            let mut effects = SideEffects::default();
            let target = TenantReport {
                tenant: &mut current,
                desired_state: *desired_state,
                report,
            };
            target.apply(ctx, session, &mut effects, now).await?;
            ctx.tenants.save(session, &current).await?;
            effects.write(ctx, session, now).await?;
            let tenant = Arc::new(current);
            let desired_state = *desired_state;
            Ok(Reported::Current(Arc::new(TenantTarget {
                tenant,
                desired_state,
            })))
        }
        .boxed()
    }

    fn report_group<'a>(
        &'a self,
        ctx: &'a Context,
        session: &'a mut ClientSession,
        reports: &'a [StepReport<'a>],
        now: DateTime,
    ) -> SinkFuture<'a, Option<Targets>> {
        async move {
            let mut changed = Vec::with_capacity(reports.len());
            let mut targets: Targets = Vec::with_capacity(reports.len());
            let mut effects = SideEffects::default();
            for report in reports {
                let TenantTarget {
                    tenant,
                    desired_state,
                } = report.target()?;
                let (mut current, desired_state) = ((**tenant).clone(), *desired_state);
                let target = TenantReport {
                    tenant: &mut current,
                    desired_state,
                    report: *report,
                };
                target.apply(ctx, session, &mut effects, now).await?;
                current.revision += 1;
                let tenant = Arc::new(current);
                changed.push(tenant.clone());
                targets.push(Arc::new(TenantTarget {
                    tenant,
                    desired_state,
                }));
            }
            if !ctx.tenants.compare_and_save_many(session, &changed).await? {
                return Ok(None);
            }
            effects.write(ctx, session, now).await?;
            Ok(Some(targets))
        }
        .boxed()
    }
}

/// Records what holds whichever state a later job converges to: writes in doubt, the end of the tenant's freshness, and the
/// id of a space that was found or created, which could otherwise only be found in the list of all.
async fn record_facts(
    ctx: &Context,
    session: &mut ClientSession,
    tenant: &Tenant,
    ends: &[StepEnd],
) -> Result<(), StoreError> {
    let id = tenant.id;
    record_in_doubt(ctx, session, id, ends).await?;
    // At every upstream: a job that starts over does not list the attempt, whose other steps may be interrupted.
    if tenant.fresh_for != PerUpstream::default() {
        ctx.tenants.end_freshness(session, id).await?;
    }
    for end in ends {
        if let Some(Some(space)) = refs_of(end).and_then(|refs| refs.ocis_space_id.as_ref()) {
            ctx.tenants.set_ocis_space(session, id, space).await?;
        }
    }
    Ok(())
}

/// Records writes in doubt in the tenant, whose jobs must not change the same objects before they land.
pub(in crate::jobs) async fn record_in_doubt(
    ctx: &Context,
    session: &mut ClientSession,
    tenant: TenantId,
    ends: &[StepEnd],
) -> Result<(), StoreError> {
    for (upstream, until) in ends.iter().filter_map(StepEnd::in_doubt) {
        ctx.tenants
            .set_unknown_until(session, tenant, upstream, until)
            .await?;
    }
    Ok(())
}

/// Writes that commit with the tenant's.
#[derive(Debug, Default)]
struct SideEffects {
    events: Vec<AuditEvent>,
    /// Tenants that are terminated now; their domains, apps and storage reports are removed, and their subscriptions
    /// at Stripe end.
    terminated: Vec<Tenant>,
    /// Tenants that provide more than before: jobs of members and apps wait for it.
    provided: Vec<TenantId>,
}

impl SideEffects {
    async fn write(
        self,
        ctx: &Context,
        session: &mut ClientSession,
        now: DateTime,
    ) -> Result<(), StoreError> {
        for tenant in &self.terminated {
            let id = tenant.id;
            ctx.domains.remove_all(session, id, now).await?;
            // It holds the addresses of people.
            ctx.storage_reports.delete(session, id).await?;
            ctx.apps.delete_all(session, id).await?;
            ctx.members.remove_all(session, id, now).await?;
            billing::enqueue_end(ctx, session, tenant, now).await?;
        }
        ctx.jobs
            .release_not_ready(session, &self.provided, now)
            .await?;
        ctx.audit.record_all(session, &self.events).await
    }
}

/// A report applied to its tenant's document, which the caller saves.
struct TenantReport<'a> {
    tenant: &'a mut Tenant,
    desired_state: DesiredState,
    report: StepReport<'a>,
}

impl TenantReport<'_> {
    async fn apply(
        self,
        ctx: &Context,
        session: &mut ClientSession,
        effects: &mut SideEffects,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let Self {
            tenant,
            desired_state,
            report,
        } = self;
        let before = Provided::by(tenant);
        for end in report.ends {
            apply_step(tenant, end, now);
            if let Some(subject) = refs_of(end).and_then(|refs| refs.owner_subject.as_ref())
                && let Some(owner) = &tenant.owner
            {
                let users = &ctx.users;
                let granted = users
                    .grant_ownership(session, subject, &owner.email, &owner.name, tenant.id, now)
                    .await?;
                let event = granted.and_then(|grant| {
                    audit_event::role_granted(&grant, tenant.id, report.job_id, now)
                });
                effects.events.extend(event);
            }
        }
        if Provided::by(tenant).exceeds(&before) {
            effects.provided.push(tenant.id);
        }
        let action = advance_status(tenant, desired_state);
        tenant.updated_at = now;
        if action == Some(Action::TenantTerminated) {
            effects.terminated.push(tenant.clone());
        }
        effects.events.extend(action.map(|action| {
            let target = Target::new("tenant", tenant.id, &tenant.slug);
            audit_event::event(action, target, Some(tenant.id), report.job_id, now)
        }));
        Ok(())
    }
}

/// State of a tenant on which its members and apps depend.
struct Provided {
    converged: PerUpstream<bool>,
    group: Option<String>,
    space: Option<String>,
    mail_domains: Vec<MailDomain>,
}

impl Provided {
    fn by(tenant: &Tenant) -> Self {
        let mut converged = PerUpstream::all(false);
        for upstream in Upstream::ALL {
            *converged.get_mut(upstream) =
                step_status::is_done(*tenant.provisioning_status.get(upstream));
        }
        Self {
            converged,
            group: tenant.authentik_group_id.clone(),
            space: tenant.ocis_space_id.clone(),
            mail_domains: tenant.mail_domains.clone(),
        }
    }

    fn exceeds(&self, before: &Self) -> bool {
        let has_converged =
            |upstream| *self.converged.get(upstream) && !*before.converged.get(upstream);
        Upstream::ALL.into_iter().any(has_converged)
            || self.group != before.group
            || self.space != before.space
            || self.mail_domains != before.mail_domains
    }
}

/// Upstream ids that a step of a tenant found or created. An outer `None` leaves the tenant's field as it is.
#[expect(clippy::option_option, reason = "unchanged, removed, or set")]
#[derive(Debug, Clone, PartialEq, Default)]
pub(in crate::jobs) struct TenantRefs {
    /// The tenant's group.
    pub(in crate::jobs) authentik_group_id: Option<Option<String>>,
    /// The owner's id at the identity provider.
    pub(in crate::jobs) owner_subject: Option<String>,
    /// The tenant's first domain on the mail server.
    pub(in crate::jobs) stalwart_domain: Option<Option<String>>,
    /// The tenant's domains on the mail server.
    pub(in crate::jobs) mail_domains: Option<Vec<MailDomain>>,
    /// Former domains of the tenant that were removed upstream.
    pub(in crate::jobs) removed_domains: Vec<String>,
    /// The tenant's space.
    pub(in crate::jobs) ocis_space_id: Option<Option<String>>,
}

/// Upstream objects that a step found or created.
fn refs_of(end: &StepEnd) -> Option<&TenantRefs> {
    end.success.as_ref()?.refs()
}

/// Applies the end of a step: in-doubt writes, provisioning state, condition, the end of freshness and upstream ids.
fn apply_step(tenant: &mut Tenant, end: &StepEnd, now: DateTime) {
    let upstream = end.upstream.filter(|upstream| upstream.is_provisioned());
    if let Some(upstream) = upstream.filter(|_| end.attempted) {
        *tenant.fresh_for.get_mut(upstream) = None;
    }
    let mut status = StepStatus {
        generation: tenant.generation,
        status: &mut tenant.provisioning_status,
        errors: &mut tenant.provisioning_errors,
        unknown_until: &mut tenant.unknown_until,
    };
    if let Some(condition) = status.apply(end, now) {
        tenant.set_condition(condition);
        if let Some(refs) = refs_of(end) {
            store_upstream_refs(tenant, refs.clone());
        }
    }
}

fn store_upstream_refs(tenant: &mut Tenant, refs: TenantRefs) {
    if let Some(id) = refs.authentik_group_id {
        tenant.authentik_group_id = id;
    }
    if let Some(id) = refs.ocis_space_id {
        tenant.ocis_space_absent = id.is_none();
        tenant.ocis_space_id = id;
    }
    if let Some(domain) = refs.stalwart_domain {
        tenant.stalwart_domain = domain;
    }
    if let Some(domains) = refs.mail_domains {
        tenant.mail_domains = domains;
    }
    if let (Some(subject), Some(owner)) = (refs.owner_subject, &mut tenant.owner) {
        owner.subject = Some(subject);
    }
    tenant
        .former_domains
        .retain(|domain| !refs.removed_domains.contains(domain));
}

/// Advances the status of a tenant once all upstreams have converged.
fn advance_status(tenant: &mut Tenant, desired_state: DesiredState) -> Option<Action> {
    let done = step_status::is_converged(tenant.provisioning_status);
    let removed = step_status::is_removed(|upstream| tenant.condition(upstream));
    match (desired_state, tenant.status) {
        (DesiredState::Active, TenantStatus::Pending) if done => {
            tenant.status = TenantStatus::Active;
            Some(Action::TenantActivated)
        }
        (DesiredState::Gone, TenantStatus::Terminating) if done && removed => {
            tenant.status = TenantStatus::Terminated;
            // The slug stays reserved; its domains can be claimed by other tenants.
            tenant.domains.clear();
            tenant.primary_domain = None;
            tenant.former_domains.clear();
            Some(Action::TenantTerminated)
        }
        _ => None,
    }
}
