//! The member's status as jobs report it: provisioning state, conditions and upstream ids, written with the audit events
//! and with the link to the person's user document.

use std::sync::Arc;

use bson::DateTime;
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    member::{FilesAccount, Member, MemberStatus, SignInAccount, SignOut},
    platform::change_feed::DocumentChange,
    queue::{args::ProvisionMember, job::Job},
    storage_report::PersonalSpace,
    store::{StoreError, VersionedRepository as _, is_undecodable, jobs::NewJob, users::RoleGrant},
    tenant::{DesiredState, Tenant, TenantStatus},
    upstream::Upstream,
};
use dezky_upstreams::clients::authentik::User as Account;
use futures::FutureExt as _;
use mongodb::ClientSession;

use crate::{
    context::Context,
    jobs::{
        audit_event,
        step_status::{self, StepStatus},
        tenant::record_in_doubt,
    },
    steps::{
        JobKind, Loaded, Reported, SinkFuture, StepEnd, StepReport, StepSink, StepTarget, Targets,
    },
};

/// A member as loaded after the claim, with the states that the upstreams should converge to.
#[derive(Debug, Clone)]
pub(super) struct MemberTarget {
    /// The member.
    pub(super) member: Arc<Member>,
    /// The member's tenant.
    pub(super) tenant: Arc<Tenant>,
    /// The desired state of the member; removed also with the tenant.
    pub(super) desired_state: DesiredState,
    /// The desired state of the tenant.
    pub(super) tenant_desired_state: DesiredState,
}

impl MemberTarget {
    fn new(member: Member, tenant: Tenant, now: DateTime) -> Self {
        let tenant_desired_state = tenant.desired_state(now);
        let desired_state = match tenant_desired_state {
            DesiredState::Gone => DesiredState::Gone,
            _ => member.desired_state(now),
        };
        Self {
            member: Arc::new(member),
            tenant: Arc::new(tenant),
            desired_state,
            tenant_desired_state,
        }
    }
}

impl MemberTarget {
    /// Whether nothing is left to do for the member: removed, unless that was by the termination of the tenant, which leaves
    /// the accounts to the member's own jobs.
    pub(super) fn is_purged(&self) -> bool {
        let is_scheduled = self.member.purge_at.is_some();
        let was_terminated = self.tenant.status == TenantStatus::Terminated && is_scheduled;
        self.member.status == MemberStatus::Removed && !was_terminated
    }
}

impl StepTarget for MemberTarget {
    /// Writes in doubt of the tenant count, too: its jobs change the same objects.
    fn in_doubt_until(&self, upstream: Upstream) -> Option<DateTime> {
        if !upstream.is_provisioned() {
            return None;
        }
        let own = *self.member.unknown_until.get(upstream);
        own.max(*self.tenant.unknown_until.get(upstream))
    }

    fn changes(&self) -> Vec<DocumentChange> {
        vec![DocumentChange::Tenant(self.tenant.id)]
    }
}

/// Results of a step of a member to store in it. `None` leaves the member's field as it is.
#[derive(Debug, Clone, Default)]
pub(super) struct MemberRefs {
    /// The account at the identity provider.
    pub(super) account: Option<SignInAccount>,
    /// The account id of the mailbox.
    pub(super) mailbox_id: Option<String>,
    /// Time of issue of the password that was set on the mailbox.
    pub(super) mailbox_password: Option<DateTime>,
    /// The user on the file server.
    pub(super) files: Option<FilesAccount>,
    /// The personal space of a user who was created for the member.
    pub(super) personal_space: Option<PersonalSpace>,
    /// The end of the sessions.
    pub(super) signed_out: Option<SignOut>,
    /// Subject of the person whose access ends, even if the account was never admitted.
    pub(super) subject: Option<String>,
    /// Generation for which the account has left the tenant's group.
    pub(super) left_generation: Option<i64>,
}

impl MemberRefs {
    /// The person alone, whose rights follow the member's.
    pub(super) fn of_person(user: &Account) -> Self {
        Self {
            subject: Some(user.uuid.clone()),
            ..Self::default()
        }
    }
}

/// Reports step results to the job's member.
#[derive(Debug)]
pub(super) struct MemberSink;

impl StepSink for MemberSink {
    fn load<'a>(&'a self, ctx: &'a Context, job: &'a Job) -> SinkFuture<'a, Loaded> {
        async move {
            let (Some(tenant_id), Some(member_id)) = (job.tenant_id, job.member_id()) else {
                return Ok(Loaded::NoTarget);
            };
            let (tenant, member) =
                futures::try_join!(ctx.tenants.find(tenant_id), ctx.members.find(member_id))?;
            let (Some(tenant), Some(member)) = (tenant, member) else {
                return Ok(Loaded::Missing);
            };
            // This process's estimate of MongoDB's clock may lag behind the reading that made the job due.
            let now = ctx.store.now().max(job.run_at);
            let target = MemberTarget::new(member, tenant, now);
            Ok(Loaded::Target(Arc::new(target)))
        }
        .boxed()
    }

    fn is_reported(&self, _: &Job, kind: &JobKind) -> bool {
        kind.calls_upstreams()
    }

    fn report<'a>(
        &'a self,
        ctx: &'a Context,
        session: &'a mut ClientSession,
        report: StepReport<'a>,
        now: DateTime,
    ) -> SinkFuture<'a, Reported> {
        async move {
            let target: &MemberTarget = report.target()?;
            record_in_doubt(ctx, session, target.tenant.id, report.ends).await?;
            let current = ctx.members.find_for_update(session, target.member.id).await;
            let mut current = match current {
                // A newer build wrote it: its workers report to it.
                Err(error) if is_undecodable(&error) => return Ok(Reported::Outdated),
                current => match current? {
                    Some(current) => current,
                    None => return Ok(Reported::Outdated),
                },
            };
            if current.generation != target.member.generation
                && !current.desires_same_as(&target.member)
            {
                for (upstream, until) in report.ends.iter().filter_map(StepEnd::in_doubt) {
                    *current.unknown_until.get_mut(upstream) = Some(until);
                }
                ctx.members.save(session, &current).await?;
                return Ok(Reported::Outdated);
            }
            let mut events = Vec::new();
            let member = MemberReport {
                member: &mut current,
                target,
                report,
            };
            member.apply(ctx, session, &mut events, now).await?;
            ctx.members.save(session, &current).await?;
            ctx.audit.record_all(session, &events).await?;
            Ok(Reported::Current(Arc::new(MemberTarget {
                member: Arc::new(current),
                ..target.clone()
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
            let mut events = Vec::new();
            for report in reports {
                let target: &MemberTarget = report.target()?;
                record_in_doubt(ctx, session, target.tenant.id, report.ends).await?;
                let mut current = (*target.member).clone();
                let member = MemberReport {
                    member: &mut current,
                    target,
                    report: *report,
                };
                member.apply(ctx, session, &mut events, now).await?;
                current.revision += 1;
                let member = Arc::new(current);
                changed.push(member.clone());
                targets.push(Arc::new(MemberTarget {
                    member,
                    ..target.clone()
                }));
            }
            if !ctx.members.compare_and_save_many(session, &changed).await? {
                return Ok(None);
            }
            ctx.audit.record_all(session, &events).await?;
            Ok(Some(targets))
        }
        .boxed()
    }
}

/// A report applied to its member's document, which the caller saves.
struct MemberReport<'a> {
    member: &'a mut Member,
    target: &'a MemberTarget,
    report: StepReport<'a>,
}

impl MemberReport<'_> {
    async fn apply(
        self,
        ctx: &Context,
        session: &mut ClientSession,
        events: &mut Vec<AuditEvent>,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let Self {
            member,
            target,
            report,
        } = self;
        let mut is_linked = false;
        for end in report.ends {
            let mut status = StepStatus {
                generation: member.generation,
                status: &mut member.provisioning_status,
                errors: &mut member.provisioning_errors,
                unknown_until: &mut member.unknown_until,
            };
            if let Some(condition) = status.apply(end, now) {
                member.set_condition(condition);
            }
            let refs: Option<&MemberRefs> = end.success.as_ref().and_then(|it| it.refs());
            if let Some(refs) = refs {
                let grant = store_refs(ctx, session, member, refs, now).await?;
                is_linked |= grant.is_some();
                events.extend(grant.and_then(|grant| {
                    audit_event::role_granted(&grant, member.tenant_id, report.job_id, now)
                }));
            }
        }
        let action = advance_status(member, target.desired_state);
        if action == Some(Action::MemberRemoved) {
            unlink(ctx, session, member, now).await?;
            let is_last = target.tenant_desired_state == DesiredState::Gone
                && !ctx.members.has_removable(session, member).await?;
            if is_last {
                // The removal of the tenant waits for it.
                ctx.jobs
                    .release_not_ready(session, &[member.tenant_id], now)
                    .await?;
            }
        }
        member.updated_at = now;
        if is_linked || action == Some(Action::MemberRemoved) {
            enqueue_elsewhere(ctx, session, member, now).await?;
        }
        events.extend(action.map(|action| {
            let target = Target::new("member", member.id, &member.email);
            audit_event::event(action, target, Some(member.tenant_id), report.job_id, now)
        }));
        Ok(())
    }
}

/// Stores the results of a step. Returns the role that was granted, if the person's user document was linked now.
async fn store_refs(
    ctx: &Context,
    session: &mut ClientSession,
    member: &mut Member,
    refs: &MemberRefs,
    now: DateTime,
) -> Result<Option<RoleGrant>, StoreError> {
    let MemberRefs {
        account,
        mailbox_id,
        mailbox_password,
        files,
        personal_space,
        signed_out,
        subject,
        left_generation,
    } = refs.clone();
    if let Some(mailbox) = &mut member.mailbox {
        mailbox.stalwart_account_id = mailbox_id.or_else(|| mailbox.stalwart_account_id.take());
        mailbox.password_issued_at = mailbox_password.or(mailbox.password_issued_at);
    }
    if files.is_some() {
        member.ocis = files;
        member.ocis_create_begun = false;
    }
    member.personal_space = personal_space.or(member.personal_space);
    member.signed_out = signed_out.or_else(|| member.signed_out.take());
    member.left_generation = left_generation.or(member.left_generation);
    if let Some(subject) = subject.filter(|_| member.user_id.is_none()) {
        let link = ctx.users.link_member(session, member, &subject, now);
        return link.await.map(Some);
    }
    let Some(account) = account else {
        return Ok(None);
    };
    let subject = account.subject.clone();
    let known = member.authentik.replace(account);
    let is_known = known.is_some_and(|known| known.subject == subject);
    if is_known && member.user_id.is_some() {
        return Ok(None);
    }
    // The account was created again: the person has another subject.
    if let Some(former) = member.user_id.take()
        && let Some(mut user) = ctx.users.find_for_update(session, former).await?
    {
        user.set_role(member.tenant_id, None, now);
        user.updated_at = now;
        ctx.users.save(session, &user).await?;
    }
    let link = ctx.users.link_member(session, member, &subject, now);
    link.await.map(Some)
}

/// Ends the link of the person's user document to a removed member: a role that the person gets later is not a member's.
async fn unlink(
    ctx: &Context,
    session: &mut ClientSession,
    member: &Member,
    now: DateTime,
) -> Result<(), StoreError> {
    let Some(user_id) = member.user_id else {
        return Ok(());
    };
    let Some(before) = ctx.users.find_in_transaction(session, user_id).await? else {
        return Ok(());
    };
    let mut user = before.clone();
    user.leave_member(member.tenant_id, member.id);
    ctx.users
        .save_changed(session, &before, &mut user, now)
        .await?;
    Ok(())
}

/// Provisions the person's members in other tenants again: whether the account is theirs alone has changed.
async fn enqueue_elsewhere(
    ctx: &Context,
    session: &mut ClientSession,
    member: &Member,
    now: DateTime,
) -> Result<(), StoreError> {
    let Some(user_id) = member.user_id else {
        return Ok(());
    };
    for other in ctx.members.list_places(session, user_id).await? {
        if other.tenant_id == member.tenant_id {
            continue;
        }
        let args = ProvisionMember {
            tenant_id: other.tenant_id,
            member_id: other.id,
        };
        let job = NewJob::new(&args, "system", now)?;
        ctx.jobs.enqueue(session, &job).await?;
    }
    Ok(())
}

/// Advances the status of a member once all upstreams have converged.
fn advance_status(member: &mut Member, desired_state: DesiredState) -> Option<Action> {
    let done = step_status::is_converged(member.provisioning_status);
    let removed = step_status::is_removed(|upstream| member.condition(upstream));
    match (desired_state, member.status) {
        (DesiredState::Active, MemberStatus::Pending) if done => {
            member.status = MemberStatus::Active;
            Some(Action::MemberActivated)
        }
        (DesiredState::Gone, status) if status != MemberStatus::Removed && done && removed => {
            member.mark_removed();
            Some(Action::MemberRemoved)
        }
        _ => None,
    }
}
