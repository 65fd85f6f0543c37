//! Writing down how steps ended: the job first, then its tenant, in one transaction.
//!
//! The job is *written* first, with its lease's token in the filter. Only reading the token would not fence: a dead
//! worker's write to the tenant would not conflict with the claim that replaced it.
//!
//! What many jobs have to record at the same time is written by one transaction ([`together`]), since its commands and
//! its commit cost as much for one job as for fifty. If anything is in the way of one of them, each is recorded alone,
//! as it is here.

mod group_commit;

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use dezky_shared::{
    audit::{Action, Actor, AuditEvent, Origin, Target},
    id::{JobId, LeaseToken, TenantId},
    platform::change_feed::DocumentChange,
    queue::job::{Step, StepState},
    store::{StoreError, TransactionError, to_bson, users::OwnershipGrant},
    tenant::{
        Condition, ConditionStatus, DesiredState, ProvisioningState, Tenant, TenantStatus,
        condition_type, reason,
    },
    upstream::Upstream,
    user::Role,
};
use futures::FutureExt as _;
use mongodb::{ClientSession, options::ReturnDocument};
use tokio::sync::oneshot;

pub(super) use self::group_commit::MAX_GROUP;
use super::{Engine, step::StepEnd};

/// What came of writing down how steps ended.
#[derive(Debug, Clone)]
pub(crate) enum RecordResult {
    /// It is written.
    Written {
        /// Whether a person wants the job to stop.
        cancel_requested: bool,
        /// The tenant as it is now, if the job writes one.
        tenant: Option<Arc<Tenant>>,
    },
    /// It is written in the job alone: the tenant's intent has changed meanwhile.
    Outdated {
        /// As above.
        cancel_requested: bool,
    },
    /// Nothing is written: the job is somebody else's.
    Lost,
}

/// The job that records, and what it knows of its tenant.
#[derive(Debug, Clone)]
pub(crate) struct LeaseHolder {
    pub(crate) id: JobId,
    pub(crate) token: LeaseToken,
    /// The tenant whose document is written, as last seen; none for a dry run.
    pub(crate) tenant: Option<(Arc<Tenant>, DesiredState)>,
    /// Whether the tenant's intent has changed since.
    pub(crate) is_outdated: bool,
}

impl LeaseHolder {
    fn ours(&self) -> Document {
        doc! { "_id": self.id, "lease.token": self.token }
    }
}

/// How some of a job's steps ended, to be written down.
#[derive(Debug)]
pub(crate) struct StepRecord {
    holder: LeaseHolder,
    /// All steps as they are now.
    steps: Vec<Step>,
    ends: Vec<StepEnd>,
    done: oneshot::Sender<Result<RecordResult, StoreError>>,
}

impl StepRecord {
    /// What is written in the job.
    fn update_of_job(&self, now: DateTime) -> Result<Document, StoreError> {
        let mut set = doc! {
            "steps": to_bson(&self.steps)?,
            "lease.startedAt": now,
            "updatedAt": now,
        };
        if self.ends.iter().any(|end| end.tried) {
            // Whoever dies next does not die of the same thing.
            set.insert("crashes", 0);
            set.insert("rescued", false);
        }
        Ok(doc! { "$set": set, "$inc": { "revision": 1_i64 } })
    }

    fn changes(&self) -> Vec<DocumentChange> {
        let tenant = self.holder.tenant.as_ref();
        let mut changes = vec![DocumentChange::Job(self.holder.id)];
        changes.extend(tenant.map(|(tenant, _)| DocumentChange::Tenant(tenant.id)));
        changes
    }
}

/// What a record changes beside the tenant's document.
#[derive(Debug, Default)]
struct SideEffects {
    events: Vec<AuditEvent>,
    /// The tenants that are no more, and whose domains go with them.
    terminated: Vec<TenantId>,
}

struct LeaseLost;

impl Engine {
    /// Writes these ends, and all steps as they are now.
    pub(crate) async fn record(
        &self,
        holder: LeaseHolder,
        steps: Vec<Step>,
        ends: Vec<StepEnd>,
    ) -> Result<RecordResult, StoreError> {
        // As when the process ends, or recording panicked. The lease runs out, and the job is rescued.
        let the_end = || StoreError::custom("the recording was interrupted");
        let (done, recorded) = oneshot::channel();
        let recording = StepRecord {
            holder,
            steps,
            ends,
            done,
        };
        let sent = self.recordings.send(recording).await;
        sent.map_err(|_| the_end())?;
        recorded.await.map_err(|_| the_end())?
    }

    async fn record_single(self: Arc<Self>, recording: StepRecord) {
        let recorded = self.write_alone(&recording).await;
        if recorded.is_ok() {
            self.ctx.changes.publish(&recording.changes()).await;
        }
        // Nobody may be listening any more.
        let _ = recording.done.send(recorded);
    }

    async fn write_alone(&self, recording: &StepRecord) -> Result<RecordResult, StoreError> {
        let now = self.ctx.store.now();
        let recorded = self
            .ctx
            .store
            .transaction((self, recording), |session, (this, recording)| {
                async move {
                    let cancel_requested = this.record_in_job(session, recording, now).await?;
                    let Some((known, intent)) = &recording.holder.tenant else {
                        return Ok(RecordResult::Written {
                            cancel_requested,
                            tenant: None,
                        });
                    };
                    let tenants = &this.ctx.tenants;
                    let current = tenants
                        .lock_generation(session, known.id, known.generation)
                        .await?;
                    let Some(mut tenant) = current else {
                        this.record_unknown(session, known, &recording.ends).await?;
                        return Ok(RecordResult::Outdated { cancel_requested });
                    };
                    let mut besides = SideEffects::default();
                    this.record_in_tenant(
                        session,
                        &mut tenant,
                        *intent,
                        recording,
                        &mut besides,
                        now,
                    )
                    .await?;
                    tenants.save(session, &tenant).await?;
                    this.record_besides(session, besides, now).await?;
                    Ok(RecordResult::Written {
                        cancel_requested,
                        tenant: Some(Arc::new(tenant)),
                    })
                }
                .boxed()
            })
            .await;
        match recorded {
            Ok(recorded) => Ok(recorded),
            Err(TransactionError::Aborted(LeaseLost)) => Ok(RecordResult::Lost),
            Err(TransactionError::Store(error)) => Err(error),
        }
    }

    async fn record_in_job(
        &self,
        session: &mut ClientSession,
        recording: &StepRecord,
        now: DateTime,
    ) -> Result<bool, TransactionError<LeaseLost>> {
        let job = self
            .jobs
            .find_one_and_update(recording.holder.ours(), recording.update_of_job(now)?)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?
            .ok_or(TransactionError::Aborted(LeaseLost))?;
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

    /// Brings what was learned into the tenant's document, which is still to be saved.
    async fn record_in_tenant(
        &self,
        session: &mut ClientSession,
        tenant: &mut Tenant,
        intent: DesiredState,
        recording: &StepRecord,
        besides: &mut SideEffects,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let job = recording.holder.id;
        for end in &recording.ends {
            if let (Some(upstream), Some(until)) = (end.upstream, end.unknown_until) {
                *tenant.unknown_until.get_mut(upstream) = Some(until);
            }
            apply_step(tenant, end, now);
            if let Some(facts) = end.done.as_ref().map(|done| &done.facts)
                && let Some(subject) = &facts.owner_subject
                && let Some(owner) = &tenant.owner
            {
                let users = &self.ctx.users;
                let granted = users
                    .grant_ownership(session, subject, &owner.email, &owner.name, tenant.id, now)
                    .await?;
                let event = granted.map(|granted| ownership(&granted, tenant, job, now));
                besides.events.extend(event);
            }
        }
        let action = advance_status(tenant, intent);
        tenant.updated_at = now;
        if action == Some(Action::TenantTerminated) {
            besides.terminated.push(tenant.id);
        }
        besides.events.extend(action.map(|action| {
            let target = Target {
                kind: "tenant".to_owned(),
                id: tenant.id.to_string(),
                name: tenant.slug.clone(),
            };
            event(action, target, tenant, job, now)
        }));
        Ok(())
    }

    async fn record_besides(
        &self,
        session: &mut ClientSession,
        besides: SideEffects,
        now: DateTime,
    ) -> Result<(), StoreError> {
        for tenant in besides.terminated {
            self.ctx.domains.remove_all(session, tenant, now).await?;
        }
        self.ctx.audit.record_all(session, &besides.events).await
    }
}

/// What the trail says of somebody who was made the owner of a new workspace.
fn ownership(granted: &OwnershipGrant, tenant: &Tenant, job: JobId, now: DateTime) -> AuditEvent {
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
fn apply_step(tenant: &mut Tenant, end: &StepEnd, now: DateTime) {
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
        store_upstream_refs(tenant, done);
    }
}

fn store_upstream_refs(tenant: &mut Tenant, done: &crate::steps::StepSuccess) {
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
fn advance_status(tenant: &mut Tenant, intent: DesiredState) -> Option<Action> {
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
        (DesiredState::Active, TenantStatus::Pending) if done => {
            tenant.status = TenantStatus::Active;
            Some(Action::TenantActivated)
        }
        (DesiredState::Gone, TenantStatus::Terminating) if done && removed => {
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
