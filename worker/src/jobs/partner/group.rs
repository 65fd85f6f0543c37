//! Group synchronisation: the partner's group contains exactly its team.

use bson::Document;
use dezky_shared::{
    partner::{Partner, PartnerStatus},
    queue::{args::ReconcileTenant, job::Job, priority::Priority},
    store::jobs::NewJob,
    user::User,
};
use dezky_upstreams::clients::{
    ClientError, Mode,
    authentik::{Authentik, Freeze, Group, User as Account},
};
use futures::FutureExt as _;

use super::team_of;
use crate::{
    jobs::item_work::ItemWork,
    steps::{StepContext, StepFailure},
};

/// Synchronises the group with the current team, as far as there is time. Returns the people in the group, with their
/// account numbers.
pub(super) async fn sync(
    run: &StepContext,
    client: &Authentik,
    partner: &Partner,
    work: &mut ItemWork<'_>,
) -> Result<Vec<(User, i64)>, StepFailure> {
    let Some(group) = group_of(run, client, partner, &mut work.changes).await? else {
        return Ok(Vec::new());
    };
    let team = team_of(run, partner).await?;
    let undecodable = subjects_of(&team.undecodable);
    let team = work.decodable("user", team);
    let (mut members, leavers): (Vec<Account>, Vec<Account>) = client
        .list_members(&group.id)
        .await?
        .into_iter()
        .partition(|member| {
            undecodable.contains(&member.uuid)
                || team.iter().any(|user| is_account_of(member, user))
        });

    // Before the removal: on a retry, leavers are found only while they are in the group.
    reconcile_tenants_of(run, &leavers).await?;
    work.begin("members removed", 0, leavers.len());
    let removing = async |leaver: &Account| {
        // Before the removal, for the same reason: a leaver not found again would stay signed in.
        client.end_sessions(leaver).await?;
        client.remove_member(&group.id, leaver.pk).await?;
        Ok(vec!["member removed from group".to_owned()])
    };
    work.each(&leavers, removing).await?;

    let account_of = |user: &User| members.iter().find(|member| is_account_of(member, user));
    let is_joining = |user: &&User| {
        let member = account_of(user);
        member.is_none_or(|member| !member.frozen_by().is_empty())
    };
    let joining: Vec<&User> = team.iter().filter(is_joining).collect();
    let admitting = async |user: &&User| {
        let account = match account_of(user) {
            Some(member) => Some(member.clone()),
            // A deleted account is recreated only by an invitation.
            None => client.find_subject(&user.authentik_subject_id).await?,
        };
        let mut changes = Vec::new();
        if let Some(account) = account {
            add_member(client, &group, &account, &mut changes).await?;
        }
        Ok(changes)
    };
    if !work.is_unfinished() {
        work.begin("members added", 0, joining.len());
        work.each(&joining, admitting).await?;
    }
    if !joining.is_empty() {
        members = client.list_members(&group.id).await?;
    }
    Ok(with_accounts(team, &members))
}

/// Those of the team who have one of these accounts, with its number.
fn with_accounts(team: Vec<User>, members: &[Account]) -> Vec<(User, i64)> {
    let found = team.into_iter().filter_map(|user| {
        let account = members.iter().find(|member| is_account_of(member, &user))?;
        Some((user, account.pk))
    });
    found.collect()
}

/// Adds an invited account to the group, without waiting for the synchronisation of other members.
pub(super) async fn admit(
    run: &StepContext,
    client: &Authentik,
    partner: &Partner,
    account: &Account,
) -> Result<Vec<String>, StepFailure> {
    let mut changes = Vec::new();
    if let Some(group) = group_of(run, client, partner, &mut changes).await? {
        add_member(client, &group, account, &mut changes).await?;
    }
    Ok(changes)
}

/// Adds an account to the group and restores its sign-in: a suspended tenant does not block a partner's team.
async fn add_member(
    client: &Authentik,
    group: &Group,
    account: &Account,
    changes: &mut Vec<String>,
) -> Result<(), ClientError> {
    if !account.groups.contains(&group.id) {
        client.add_member(&group.id, account.pk).await?;
        changes.push("member added to group".to_owned());
    }
    for tenant_id in account.frozen_by() {
        let lifted = client
            .unfreeze_user(account, Freeze::Tenant(tenant_id), Mode::Apply)
            .await?;
        changes.extend(lifted.changes);
    }
    Ok(())
}

/// Reconciles the tenants that block sign-in of leavers, who are not exempt as team members any more.
async fn reconcile_tenants_of(run: &StepContext, leavers: &[Account]) -> Result<(), StepFailure> {
    let now = run.ctx.store.now();
    let mut reconciles = Vec::new();
    for leaver in leavers {
        for tenant_id in run
            .ctx
            .tenants
            .tenants_blocking_sign_in(&leaver.groups)
            .await?
        {
            let args = ReconcileTenant {
                tenant_id,
                dry_run: false,
            };
            let reconcile = NewJob::new(&args, &run.job.created_by, now)?;
            // A deterministic id makes the job once per leaver across retries.
            let subject = format!("{tenant_id}:{}", leaver.uuid);
            let child = reconcile.child_of(&run.job, &subject);
            // It takes access from a person.
            reconciles.push(child.with_priority(Priority::Security));
        }
    }
    run.ctx.jobs.enqueue_many(&reconciles).await?;
    let jobs: Vec<Job> = reconciles.iter().map(|new| new.job().clone()).collect();
    run.ctx.ready.notify(&jobs).await;
    Ok(())
}

/// Subjects of users that cannot be decoded: they are no leavers.
fn subjects_of(users: &[Document]) -> Vec<String> {
    let subject = |user: &Document| user.get_str("authentikSubjectId").ok().map(str::to_owned);
    users.iter().filter_map(subject).collect()
}

fn is_account_of(account: &Account, user: &User) -> bool {
    account.uuid == user.authentik_subject_id
}

/// The partner's group. Created if missing, unless the partner is terminated.
async fn group_of(
    run: &StepContext,
    client: &Authentik,
    partner: &Partner,
    changes: &mut Vec<String>,
) -> Result<Option<Group>, StepFailure> {
    let id = partner.id.to_string();
    let known = partner.authentik_group_id.as_deref();
    if partner.status == PartnerStatus::Terminated {
        return Ok(client.find_partner_group(&id, known).await?);
    }
    let ensured = client
        .ensure_partner_group(&partner.group_name(), &partner.slug, &id, known)
        .await?;
    changes.extend(ensured.changes);
    if let Some(group) = &ensured.value
        && known != Some(group.id.as_str())
    {
        let found = (run, partner.id, group.id.as_str());
        run.fenced_transaction(found, |session, (run, partner_id, group_id)| {
            let partners = &run.ctx.partners;
            partners.set_group(session, *partner_id, group_id).boxed()
        })
        .await?;
    }
    Ok(ensured.value)
}
