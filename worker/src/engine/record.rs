//! Writing down how steps ended: the job first, then its tenant, in one transaction.
//!
//! The job is *written* first, with its lease's token in the filter. Only reading the token would not fence: a dead
//! worker's write to the tenant would not conflict with the claim that replaced it.

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    changes::Change,
    id::{JobId, LeaseToken},
    job::{Step, StepState},
    store::{Abort, StoreError, to_bson, users::Granted},
    tenant::{
        Condition, ConditionStatus, Intent, ProvisioningState, Tenant, TenantStatus,
        condition_type, reason,
    },
    upstream::Upstream,
    user::Role,
};
use futures::FutureExt as _;
use mongodb::{ClientSession, options::ReturnDocument};

use super::{Engine, step::StepEnd};

/// What came of writing down how steps ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recorded {
    /// It is written.
    Written {
        /// Whether a person wants the job to stop.
        cancel_requested: bool,
    },
    /// It is written in the job alone: the tenant's intent has changed meanwhile.
    Outdated {
        /// As above.
        cancel_requested: bool,
    },
    /// Nothing is written: the job is somebody else's.
    Lost,
}

/// The job that records, and what it knew of its tenant when it began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Holder<'a> {
    pub(crate) id: JobId,
    pub(crate) token: LeaseToken,
    /// The tenant whose document is written; none for a dry run.
    pub(crate) tenant: Option<(&'a Tenant, Intent)>,
}

struct LeaseLost;

impl Engine {
    /// Writes these ends, and all steps as they are now.
    pub(crate) async fn record(
        &self,
        holder: Holder<'_>,
        steps: &[Step],
        ends: &[StepEnd],
    ) -> Result<Recorded, StoreError> {
        let now = self.ctx.store.now();
        let recorded = self
            .ctx
            .store
            .transaction(
                (self, holder, steps, ends),
                |session, (this, holder, steps, ends)| {
                    async move {
                        let cancel_requested =
                            this.record_in_job(session, *holder, steps, now).await?;
                        let Some((tenant, intent)) = holder.tenant else {
                            return Ok(Recorded::Written { cancel_requested });
                        };
                        let current = this
                            .ctx
                            .tenants
                            .lock_generation(session, tenant.id, tenant.generation)
                            .await?;
                        let Some(current) = current else {
                            this.record_unknown(session, tenant, ends).await?;
                            return Ok(Recorded::Outdated { cancel_requested });
                        };
                        this.record_in_tenant(session, current, *holder, intent, ends, now)
                            .await?;
                        Ok(Recorded::Written { cancel_requested })
                    }
                    .boxed()
                },
            )
            .await;
        let recorded = match recorded {
            Ok(recorded) => recorded,
            Err(Abort::Because(LeaseLost)) => return Ok(Recorded::Lost),
            Err(Abort::Store(error)) => return Err(error),
        };
        let mut changes = vec![Change::Job(holder.id)];
        changes.extend(holder.tenant.map(|(tenant, _)| Change::Tenant(tenant.id)));
        self.ctx.changes.publish(&changes).await;
        Ok(recorded)
    }

    async fn record_in_job(
        &self,
        session: &mut ClientSession,
        holder: Holder<'_>,
        steps: &[Step],
        now: DateTime,
    ) -> Result<bool, Abort<LeaseLost>> {
        let ours = doc! { "_id": holder.id, "lease.token": holder.token };
        let update = doc! {
            // A step has ended: whoever dies next does not die of the same thing.
            "$set": {
                "steps": to_bson(&steps)?,
                "crashes": 0,
                "rescued": false,
                "lease.startedAt": now,
                "updatedAt": now,
            },
            "$inc": { "revision": 1_i64 },
        };
        let job = self
            .jobs
            .find_one_and_update(ours, update)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?
            .ok_or(Abort::Because(LeaseLost))?;
        Ok(job.cancel_requested == Some(true))
    }

    /// Whatever the intent is by now, nobody may write there before these writes have surely landed or not.
    async fn record_unknown(
        &self,
        session: &mut ClientSession,
        tenant: &Tenant,
        ends: &[StepEnd],
    ) -> Result<(), StoreError> {
        for (upstream, until) in ends
            .iter()
            .filter_map(|end| Some((end.upstream?, end.unknown_until?)))
        {
            self.ctx
                .tenants
                .set_unknown_until(session, tenant.id, upstream, until)
                .await?;
        }
        Ok(())
    }

    async fn record_in_tenant(
        &self,
        session: &mut ClientSession,
        mut tenant: Tenant,
        holder: Holder<'_>,
        intent: Intent,
        ends: &[StepEnd],
        now: DateTime,
    ) -> Result<(), StoreError> {
        for end in ends {
            if let (Some(upstream), Some(until)) = (end.upstream, end.unknown_until) {
                *tenant.unknown_until.get_mut(upstream) = Some(until);
            }
            tell(&mut tenant, end, now);
            if let Some(facts) = end.done.as_ref().map(|done| &done.facts)
                && let Some(subject) = &facts.owner_subject
                && let Some(owner) = tenant.owner.clone()
            {
                let users = &self.ctx.users;
                let granted = users
                    .grant_ownership(session, subject, &owner.email, &owner.name, tenant.id, now)
                    .await?;
                if let Some(granted) = granted {
                    let event = ownership(&granted, &tenant, holder.id, now);
                    self.ctx.audit.record(session, &event).await?;
                }
            }
        }
        let action = advance(&mut tenant, intent);
        tenant.updated_at = now;
        self.ctx.tenants.save(session, &tenant).await?;
        if action == Some(Action::TenantTerminated) {
            let domains = &self.ctx.domains;
            domains.remove_all(session, tenant.id, now).await?;
        }
        if let Some(action) = action {
            let target = Target {
                kind: "tenant".to_owned(),
                id: tenant.id.to_string(),
                name: tenant.slug.clone(),
            };
            let event = event(action, target, &tenant, holder.id, now);
            self.ctx.audit.record(session, &event).await?;
        }
        Ok(())
    }
}

/// What the trail says of somebody who was made the owner of a new workspace.
fn ownership(granted: &Granted, tenant: &Tenant, job: JobId, now: DateTime) -> AuditEvent {
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

/// An event of a job about a tenant.
fn event(action: Action, target: Target, tenant: &Tenant, job: JobId, now: DateTime) -> AuditEvent {
    let mut event = AuditEvent::new(now, Actor::system(), action, target, Origin::default());
    event.tenant_id = Some(tenant.id);
    event.job_id = Some(job);
    event
}

/// Writes the end of a step into its tenant.
fn tell(tenant: &mut Tenant, end: &StepEnd, now: DateTime) {
    let Some(upstream) = end.upstream else { return };
    if end.done.is_some() {
        // It looked, so what was unknown has been found.
        *tenant.unknown_until.get_mut(upstream) = None;
    }
    if !end.speaks_for_tenant {
        return;
    }
    let error = end.step.error.as_ref();
    *tenant.provisioning_status.get_mut(upstream) = end.step.state.into();
    *tenant.provisioning_errors.get_mut(upstream) = error.map(|error| error.message.clone());
    let (status, reason, message) = match (&end.done, error) {
        (Some(done), _) => (ConditionStatus::True, done.reason, message_for(done.reason)),
        (None, Some(error)) if end.step.state == StepState::Unknown => (
            ConditionStatus::Unknown,
            error.code.reason(),
            error.message.as_str(),
        ),
        (None, Some(error)) => (
            ConditionStatus::False,
            error.code.reason(),
            error.message.as_str(),
        ),
        (None, None) => (
            ConditionStatus::Unknown,
            reason::PENDING,
            message_for(reason::PENDING),
        ),
    };
    let condition = Condition {
        kind: condition_type(upstream).to_owned(),
        status,
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: tenant.generation,
        last_transition_at: now,
        next_attempt_at: end.step.next_at,
        class: error.map(|error| error.class),
    };
    tenant.set_condition(condition);
    if let Some(done) = &end.done {
        learn(tenant, done);
    }
}

fn learn(tenant: &mut Tenant, done: &crate::work::StepDone) {
    let facts = done.facts.clone();
    if let Some(id) = facts.authentik_group_id {
        tenant.authentik_group_id = id;
    }
    if let Some(id) = facts.ocis_space_id {
        tenant.ocis_space_id = id;
    }
    if let Some(domain) = facts.stalwart_domain {
        tenant.stalwart_domain = domain;
    }
    if let (Some(subject), Some(owner)) = (facts.owner_subject, &mut tenant.owner) {
        owner.subject = Some(subject);
    }
    tenant
        .former_domains
        .retain(|domain| !facts.removed_domains.contains(domain));
}

/// Moves a tenant on whose upstreams have all reached the intent.
fn advance(tenant: &mut Tenant, intent: Intent) -> Option<Action> {
    let everywhere = |is: &dyn Fn(Upstream) -> bool| Upstream::ALL.into_iter().all(is);
    let done = everywhere(&|upstream| {
        matches!(
            tenant.provisioning_status.get(upstream),
            ProvisioningState::Ok | ProvisioningState::Skipped
        )
    });
    // `ok` alone does not tell frozen from removed.
    let removed = everywhere(&|upstream| {
        tenant.condition(upstream).is_some_and(|condition| {
            condition.reason == reason::REMOVED || condition.reason == reason::INTEGRATION_DISABLED
        })
    });
    match (intent, tenant.status) {
        (Intent::Active, TenantStatus::Pending) if done => {
            tenant.status = TenantStatus::Active;
            Some(Action::TenantActivated)
        }
        (Intent::Gone, TenantStatus::Terminating) if done && removed => {
            tenant.status = TenantStatus::Terminated;
            // The slug stays taken; its domains may go to somebody else.
            tenant.domains.clear();
            tenant.primary_domain = None;
            tenant.former_domains.clear();
            Some(Action::TenantTerminated)
        }
        _ => None,
    }
}

fn message_for(reason: &str) -> &'static str {
    match reason {
        reason::PROVISIONED => "In place.",
        reason::SUSPENDED => "Frozen: nobody can sign in, nothing is lost.",
        reason::REMOVED => "Removed.",
        reason::INTEGRATION_DISABLED => "This integration is switched off.",
        reason::NO_DOMAIN => "There is no mail domain yet.",
        _ => "Waiting to be carried out.",
    }
}
