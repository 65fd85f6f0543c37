//! Repair of a tenant's members: their documents are compared, page by page, with what each upstream lists for the tenant,
//! and those that differ are provisioned again by a job of their own.
//!
//! The lists are those of the tenant, so a reconcile makes no call per member, and none that depends on other tenants. The
//! file server has no list of a tenant's personal spaces: their quotas are compared as they were last measured.

use std::collections::HashMap;

use bson::DateTime;
use dezky_shared::{
    allowance::Allowance,
    id::MemberId,
    member::{AccountOrigin, Member},
    queue::{args::ProvisionMember, error_code::ErrorCode, job::Job},
    store::{jobs::NewJob, members::MemberFilter},
    tenant::{DesiredState, ProvisioningState, Tenant},
    upstream::Upstream,
};
use dezky_upstreams::clients::{
    authentik::{Freeze, User},
    ocis::SpaceMembers,
    stalwart::{Access, Account, MailFreeze},
};

use super::applies;
use crate::{
    jobs::{item_work::ItemWork, member::desired_mailbox},
    steps::{StepContext, StepFailure},
};

/// Members compared at a time.
const PAGE: i64 = 500;

/// Accounts that an upstream lists for a tenant.
pub(super) enum Listed {
    /// Members of the group, by subject.
    Accounts(HashMap<String, User>),
    /// Mailboxes of the domains, by account id.
    Mailboxes(HashMap<String, Account>),
    /// Members of the enabled space.
    Space(SpaceMembers),
}

impl Listed {
    pub(super) fn accounts(users: &[User]) -> Self {
        let users = users.iter().cloned();
        Self::Accounts(users.map(|user| (user.uuid.clone(), user)).collect())
    }

    pub(super) fn mailboxes(accounts: Vec<Account>) -> Self {
        let accounts = accounts.into_iter();
        Self::Mailboxes(accounts.map(|it| (it.id.clone(), it)).collect())
    }

    const fn upstream(&self) -> Upstream {
        match self {
            Self::Accounts(_) => Upstream::Authentik,
            Self::Mailboxes(_) => Upstream::Stalwart,
            Self::Space(_) => Upstream::Ocis,
        }
    }

    /// Number of accounts.
    fn count(&self) -> usize {
        match self {
            Self::Accounts(users) => users.len(),
            Self::Mailboxes(accounts) => accounts.len(),
            Self::Space(members) => members.count(),
        }
    }

    /// Whether the member differs from its desired state, as far as the list shows.
    fn differs(&self, tenant: &Tenant, member: &Member, now: DateTime, plan: &Allowance) -> bool {
        match (self, member.desired_state(now)) {
            (_, DesiredState::Gone) => true,
            (Self::Accounts(users), desired_state) => account_differs(users, member, desired_state),
            (Self::Mailboxes(accounts), desired_state) => {
                mailbox_differs(accounts, tenant, member, desired_state, plan)
            }
            (Self::Space(members), DesiredState::Active) => {
                let user = member.ocis.as_ref();
                user.is_none_or(|user| !members.may_write(&user.user_id))
                    || personal_space_differs(member, plan)
            }
            (Self::Space(members), DesiredState::Suspended) => {
                let user = member.ocis.as_ref();
                user.is_some_and(|user| members.contains(&user.user_id))
            }
        }
    }
}

/// An account without a place in the group is not listed: for a suspended member of several tenants, that is as desired.
fn account_differs(
    users: &HashMap<String, User>,
    member: &Member,
    desired_state: DesiredState,
) -> bool {
    let account = member.authentik.as_ref();
    let user = account.and_then(|account| users.get(&account.subject));
    let id = member.id.to_string();
    let freeze = Freeze::Member(&id);
    let Some(user) = user else {
        return desired_state == DesiredState::Active;
    };
    if desired_state == DesiredState::Suspended {
        // One that an administrator deactivated stays as it is.
        return !user.is_suspended() && (user.is_active || !user.is_frozen_by(freeze));
    }
    // The profile of an account with other uses is the person's.
    let is_ours = account.is_some_and(|account| account.origin == AccountOrigin::Created)
        && user.groups.len() <= 1;
    let is_renamed = user.username != member.email || user.name != member.name.trim();
    user.is_frozen_by(freeze) || is_ours && is_renamed
}

/// Whether the personal space, as last measured, has another quota than the plan grants.
fn personal_space_differs(member: &Member, plan: &Allowance) -> bool {
    let Some(quota) = plan.personal_quota() else {
        return false;
    };
    let is_ours = member
        .ocis
        .as_ref()
        .is_some_and(|user| user.origin == AccountOrigin::Created);
    let space = member.personal_space.as_ref().filter(|_| is_ours);
    space.is_some_and(|space| u64::try_from(space.usage.total_bytes) != Ok(quota))
}

fn mailbox_differs(
    accounts: &HashMap<String, Account>,
    tenant: &Tenant,
    member: &Member,
    desired_state: DesiredState,
    plan: &Allowance,
) -> bool {
    let Some(mailbox) = &member.mailbox else {
        return false;
    };
    let id = mailbox.stalwart_account_id.as_ref();
    let Some(account) = id.and_then(|id| accounts.get(id)) else {
        return desired_state == DesiredState::Active;
    };
    let is_frozen = account.is_frozen_by(MailFreeze::Member);
    if desired_state == DesiredState::Suspended {
        return !is_frozen && account.access() != Access::Suspended;
    }
    let desired = desired_mailbox(tenant, member, mailbox, plan);
    is_frozen || desired.is_none_or(|desired| !desired.is_met_by(account))
}

/// Enqueues the provisioning of every member that differs from what the upstream lists, or whose last attempt there failed:
/// its job may have been cancelled or discarded. Without time for all members, the next attempt goes on after the last page.
///
/// A member that waits for an upstream has a job already.
pub(super) async fn repair(
    run: &StepContext,
    tenant: &Tenant,
    listed: &Listed,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let plan = run.ctx.allowances.of_plan(tenant.plan).await?;
    let last_id = work.begin_scan().last_id;
    let mut after: Option<MemberId> = last_id.and_then(|id| id.parse().ok());
    while work.has_time() {
        let Some(page) = next_page(run, tenant, &mut after).await? else {
            work.end_scan();
            return Ok(());
        };
        let now = run.ctx.store.now();
        let differing =
            page.iter().filter(
                |member| match *member.provisioning_status.get(listed.upstream()) {
                    ProvisioningState::Pending => false,
                    ProvisioningState::Error => true,
                    _ => listed.differs(tenant, member, now, &plan),
                },
            );
        let differing: Vec<&Member> = differing.collect();
        let changes = differing.iter();
        let changes = changes.map(|member| format!("member {} differs", member.email));
        work.changes.extend(changes);
        if applies(run.mode) {
            enqueue(run, &differing).await?;
        }
        if let Some(last) = page.last() {
            work.scanned(
                "members compared",
                page.len(),
                last.id.to_string(),
                listed.count(),
            );
        }
    }
    work.leave_rest();
    Ok(())
}

/// The next members of the tenant by id, after those up to `after`. `None` after the last.
async fn next_page(
    run: &StepContext,
    tenant: &Tenant,
    after: &mut Option<MemberId>,
) -> Result<Option<Vec<Member>>, StepFailure> {
    let filter = MemberFilter {
        after: *after,
        ..MemberFilter::default()
    };
    let page = run.ctx.members.list(tenant.id, &filter, PAGE).await?;
    let Some(last) = page.last() else {
        return Ok(None);
    };
    *after = Some(last.id);
    Ok(Some(page))
}

/// Removes every member of a tenant that is removed, by a job each, and fails until they are: their users on the file
/// server hold their files, and the next owner of the domain would get them with the address.
///
/// A member that cannot be removed holds nothing up: its job goes on, or says why not, after the tenant is terminated.
/// Called by each step whose upstream has such accounts, and enqueued once for all of them.
pub(super) async fn remove_all(run: &StepContext, tenant: &Tenant) -> Result<(), StepFailure> {
    if !applies(run.mode) {
        return Ok(());
    }
    let mut is_done = true;
    let mut after: Option<MemberId> = None;
    while let Some(page) = next_page(run, tenant, &mut after).await? {
        is_done &= page.iter().all(Member::is_failing);
        enqueue(run, &page.iter().collect::<Vec<_>>()).await?;
    }
    if is_done {
        return Ok(());
    }
    // The removal of the last one makes the job due.
    Err(StepFailure::new(
        ErrorCode::UpstreamNotReady,
        "the accounts of the tenant's members are not removed yet",
    ))
}

/// Whether the tenant has members to compare.
pub(super) async fn has_members(run: &StepContext, tenant: &Tenant) -> Result<bool, StepFailure> {
    let filter = MemberFilter::default();
    Ok(!run
        .ctx
        .members
        .list(tenant.id, &filter, 1)
        .await?
        .is_empty())
}

/// One job per member and reconcile, whichever step finds the difference.
async fn enqueue(run: &StepContext, members: &[&Member]) -> Result<(), StepFailure> {
    if members.is_empty() {
        return Ok(());
    }
    let now = run.ctx.store.now();
    let children = members.iter().map(|member| {
        let args = ProvisionMember {
            tenant_id: member.tenant_id,
            member_id: member.id,
        };
        let job = NewJob::new(&args, &run.job.created_by, now)?;
        Ok(job.child_of(&run.job, &member.id.to_string()))
    });
    let children: Vec<NewJob> = children.collect::<Result<_, StepFailure>>()?;
    run.ctx.jobs.enqueue_many(&children).await?;
    let jobs: Vec<Job> = children.iter().map(|child| child.job().clone()).collect();
    run.ctx.ready.notify(&jobs).await;
    Ok(())
}
