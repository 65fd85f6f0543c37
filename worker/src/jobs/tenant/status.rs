//! The tenant's status as jobs report it: provisioning state, conditions and upstream ids, written with the audit events
//! and the writes to users and domains that follow from them.

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    id::{JobId, TenantId},
    platform::change_feed::DocumentChange,
    queue::job::{Job, Progress, StepState},
    store::{StoreError, VersionedRepository as _, is_undecodable, users::OwnershipGrant},
    tenant::{
        Condition, ConditionStatus, DesiredState, ProvisioningState, Tenant, TenantStatus,
        condition_type, reason,
    },
    upstream::Upstream,
    user::Role,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::{
    context::Context,
    steps::{
        JobKind, Loaded, Registry, Reported, SinkFuture, StepContext, StepEnd, StepReport,
        StepSink, StepSuccess, StepTarget, Targets,
    },
};

/// A tenant as loaded after the claim, with the state that the upstreams should converge to.
#[derive(Debug, Clone)]
pub struct TenantTarget {
    /// The tenant.
    pub tenant: Arc<Tenant>,
    /// The desired state.
    pub intent: DesiredState,
}

impl StepTarget for TenantTarget {
    fn in_doubt_until(&self, upstream: Upstream) -> Option<DateTime> {
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
            let Some(tenant) = ctx.tenants.find(id).await? else {
                return Ok(Loaded::Missing);
            };
            // This process's estimate of MongoDB's clock may lag behind the reading that made the job due.
            let intent = tenant.desired_state(ctx.store.now().max(job.run_at));
            let tenant = Arc::new(tenant);
            Ok(Loaded::Target(Arc::new(TenantTarget { tenant, intent })))
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
            let TenantTarget { tenant, intent } = report.target()?;
            let current = match ctx.tenants.find_for_update(session, tenant.id).await {
                // A newer build wrote it: its workers report to it.
                Err(error) if is_undecodable(&error) => {
                    record_facts(ctx, session, tenant.id, report.ends).await?;
                    return Ok(Reported::Outdated);
                }
                current => current?,
            };
            let Some(mut current) = current else {
                return Ok(Reported::Outdated);
            };
            // A job's own write to its tenant keeps the generation.
            let is_changed = current.generation != tenant.generation;
            if is_changed && !current.desires_same_as(tenant) {
                ctx.tenants.unlock(session, tenant.id).await?;
                record_facts(ctx, session, tenant.id, report.ends).await?;
                return Ok(Reported::Outdated);
            }
            let mut effects = SideEffects::default();
            let target = TenantReport {
                tenant: &mut current,
                intent: *intent,
                report,
            };
            target.apply(ctx, session, &mut effects, now).await?;
            ctx.tenants.save(session, &current).await?;
            effects.write(ctx, session, now).await?;
            let tenant = Arc::new(current);
            let intent = *intent;
            Ok(Reported::Current(Arc::new(TenantTarget { tenant, intent })))
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
                let TenantTarget { tenant, intent } = report.target()?;
                let (mut current, intent) = ((**tenant).clone(), *intent);
                let target = TenantReport {
                    tenant: &mut current,
                    intent,
                    report: *report,
                };
                target.apply(ctx, session, &mut effects, now).await?;
                current.revision += 1;
                let tenant = Arc::new(current);
                changed.push(tenant.clone());
                targets.push(Arc::new(TenantTarget { tenant, intent }));
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

/// Records what holds whichever state a later job converges to: writes in doubt, and the id of a space that was found or
/// created, which could otherwise only be found in the list of all.
async fn record_facts(
    ctx: &Context,
    session: &mut ClientSession,
    tenant: TenantId,
    ends: &[StepEnd],
) -> Result<(), StoreError> {
    for end in ends {
        if let (Some(upstream), Some(until)) = (end.upstream, end.in_doubt_until) {
            ctx.tenants
                .set_unknown_until(session, tenant, upstream, until)
                .await?;
        }
        let refs = end.success.as_ref().map(|success| &success.refs);
        if let Some(Some(space)) = refs.and_then(|refs| refs.ocis_space_id.as_ref()) {
            ctx.tenants.set_ocis_space(session, tenant, space).await?;
        }
    }
    Ok(())
}

/// Writes that commit with the tenant's.
#[derive(Debug, Default)]
struct SideEffects {
    events: Vec<AuditEvent>,
    /// Tenants that are terminated now; their domains are removed.
    terminated: Vec<TenantId>,
}

impl SideEffects {
    async fn write(
        self,
        ctx: &Context,
        session: &mut ClientSession,
        now: DateTime,
    ) -> Result<(), StoreError> {
        for tenant in self.terminated {
            ctx.domains.remove_all(session, tenant, now).await?;
        }
        ctx.audit.record_all(session, &self.events).await
    }
}

/// A report applied to its tenant's document, which the caller saves.
struct TenantReport<'a> {
    tenant: &'a mut Tenant,
    intent: DesiredState,
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
            intent,
            report,
        } = self;
        for end in report.ends {
            apply_step(tenant, end, now);
            if let Some(subject) = end
                .success
                .as_ref()
                .and_then(|it| it.refs.owner_subject.as_ref())
                && let Some(owner) = &tenant.owner
            {
                let users = &ctx.users;
                let granted = users
                    .grant_ownership(session, subject, &owner.email, &owner.name, tenant.id, now)
                    .await?;
                let event =
                    granted.map(|granted| ownership_event(&granted, tenant, report.job_id, now));
                effects.events.extend(event);
            }
        }
        let action = advance_status(tenant, intent);
        tenant.updated_at = now;
        if action == Some(Action::TenantTerminated) {
            effects.terminated.push(tenant.id);
        }
        effects.events.extend(action.map(|action| {
            let target = Target {
                kind: "tenant".to_owned(),
                id: tenant.id.to_string(),
                name: tenant.slug.clone(),
            };
            event(action, target, tenant, report.job_id, now)
        }));
        Ok(())
    }
}

/// Applies the end of a step: in-doubt writes, provisioning state, condition and upstream ids.
fn apply_step(tenant: &mut Tenant, end: &StepEnd, now: DateTime) {
    let Some(upstream) = end.upstream else { return };
    if let Some(until) = end.in_doubt_until {
        *tenant.unknown_until.get_mut(upstream) = Some(until);
    }
    if end.success.is_some() {
        // The step read the upstream's state, so no write is in doubt any more.
        *tenant.unknown_until.get_mut(upstream) = None;
    }
    if !end.sets_condition {
        return;
    }
    let error = end.step.error.as_ref();
    *tenant.provisioning_status.get_mut(upstream) = end.step.state.into();
    *tenant.provisioning_errors.get_mut(upstream) = error.map(|error| error.message.clone());
    let condition = condition(tenant, upstream, end, now);
    tenant.set_condition(condition);
    if let Some(success) = &end.success {
        store_upstream_refs(tenant, success);
    }
}

fn condition(tenant: &Tenant, upstream: Upstream, end: &StepEnd, now: DateTime) -> Condition {
    let error = end.step.error.as_ref();
    let (status, reason, message) = match (&end.success, error) {
        (Some(success), _) => match &success.progress {
            Some(progress) => (
                ConditionStatus::Unknown,
                success.reason,
                in_progress(progress),
            ),
            None => (
                ConditionStatus::True,
                success.reason,
                message_for(success.reason).to_owned(),
            ),
        },
        (None, Some(error)) => {
            let status = match end.step.state {
                StepState::Unknown => ConditionStatus::Unknown,
                _ => ConditionStatus::False,
            };
            (status, error.code.reason(), error.message.clone())
        }
        (None, None) => (
            ConditionStatus::Unknown,
            reason::PENDING,
            message_for(reason::PENDING).to_owned(),
        ),
    };
    Condition {
        kind: condition_type(upstream).to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        observed_generation: tenant.generation,
        last_transition_at: now,
        // The time at which a queued step would ask again is not that of its turn.
        next_attempt_at: end.step.next_at.filter(|_| !end.step.queue_full),
        class: error.map(|error| error.class),
    }
}

fn store_upstream_refs(tenant: &mut Tenant, success: &StepSuccess) {
    let refs = success.refs.clone();
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
fn advance_status(tenant: &mut Tenant, intent: DesiredState) -> Option<Action> {
    let everywhere = |is: &dyn Fn(Upstream) -> bool| Upstream::ALL.into_iter().all(is);
    let done = everywhere(&|upstream| {
        matches!(
            tenant.provisioning_status.get(upstream),
            ProvisioningState::Ok | ProvisioningState::Skipped
        )
    });
    // `ok` alone does not distinguish suspended from removed.
    let removed = everywhere(&|upstream| {
        tenant.condition(upstream).is_some_and(|condition| {
            condition.reason == reason::REMOVED || condition.reason == reason::INTEGRATION_DISABLED
        })
    });
    match (intent, tenant.status) {
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

/// The message of a step that continues, such as "In progress: 250 of 1000 members suspended."
fn in_progress(progress: &Progress) -> String {
    let Progress {
        done, total, note, ..
    } = progress;
    format!("In progress: {done} of {total} {note}.")
}

fn message_for(reason: &str) -> &'static str {
    match reason {
        reason::PROVISIONED => "Provisioned.",
        reason::SUSPENDED => "Suspended: sign-in is blocked, all data is kept.",
        reason::REMOVED => "Removed.",
        reason::INTEGRATION_DISABLED => "This integration is disabled.",
        reason::NO_DOMAIN => "The tenant has no mail domain.",
        _ => "Waiting to be provisioned.",
    }
}

/// The audit event of a user who became the owner of a new workspace.
fn ownership_event(
    granted: &OwnershipGrant,
    tenant: &Tenant,
    job: JobId,
    now: DateTime,
) -> AuditEvent {
    let action = if granted.is_new {
        Action::UserCreate
    } else {
        Action::UserUpdate
    };
    let target = Target {
        kind: "user".to_owned(),
        id: granted.user.id.to_string(),
        name: granted.user.email.clone(),
    };
    let roles = |role: Option<Role>| {
        let role = role.map(|role| (tenant.id.to_string(), role.name().into()));
        doc! { "tenantRoles": Document::from_iter(role) }
    };
    AuditEvent {
        before: roles(granted.role_before),
        after: roles(granted.user.role_in(tenant.id)),
        ..event(action, target, tenant, job, now)
    }
}

/// An audit event of a job about a tenant.
fn event(action: Action, target: Target, tenant: &Tenant, job: JobId, now: DateTime) -> AuditEvent {
    let mut event = AuditEvent::new(now, Actor::system(), action, target, Origin::default());
    event.tenant_id = Some(tenant.id);
    event.job_id = Some(job);
    event
}
