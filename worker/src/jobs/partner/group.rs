//! The partner's group: in it are those who work for the partner, and nobody else.

use dezky_shared::{
    id::UserId,
    partner::{Partner, PartnerStatus},
    queue::{args::ReconcileTenant, job::Job},
    store::jobs::NewJob,
    user::User,
};
use dezky_upstreams::clients::{
    ClientError, Mode,
    authentik::{Authentik, Group, User as Account},
};
use futures::FutureExt as _;

use super::team_of;
use crate::{
    jobs::partial_failure::PartialFailures,
    steps::{StepContext, StepFailure},
};

/// What following the team came to.
#[derive(Default)]
pub(super) struct GroupSync {
    /// What was changed.
    pub(super) changes: Vec<String>,
    /// Whoever is in the group now, and the number of their account.
    pub(super) team: Vec<(UserId, i64)>,
    /// What went wrong with one of them.
    pub(super) setbacks: PartialFailures,
}

/// Brings the group to who works for the partner now.
pub(super) async fn sync(
    run: &StepContext,
    client: &Authentik,
    partner: &Partner,
) -> Result<GroupSync, StepFailure> {
    let mut followed = GroupSync::default();
    let Some(group) = group_of(run, client, partner, &mut followed.changes).await? else {
        return Ok(followed);
    };
    let team = team_of(run, partner).await?;
    let (members, leavers): (Vec<Account>, Vec<Account>) = client
        .list_members(&group.id)
        .await?
        .into_iter()
        .partition(|member| team.iter().any(|user| is_account_of(member, user)));

    // First what follows from their leaving: whoever is still in the group when this is tried again is still a leaver.
    freeze_again(run, &leavers).await?;
    for leaver in &leavers {
        let GroupSync {
            changes, setbacks, ..
        } = &mut followed;
        // Taken out of the group before, they would not be found again, and stay signed in.
        if setbacks
            .capture(client.end_sessions(leaver).await)?
            .is_none()
        {
            continue;
        }
        let removed = client.remove_member(&group.id, leaver.pk).await;
        if setbacks.capture(removed)?.is_some() {
            changes.push("member removed from group".to_owned());
        }
    }
    for user in &team {
        let GroupSync {
            changes, setbacks, ..
        } = &mut followed;
        let member = members.iter().find(|member| is_account_of(member, user));
        let account = if let Some(member) = member {
            Some(member.clone())
        } else {
            // An account that was deleted comes back with an invitation alone.
            let found = client.find_subject(&user.authentik_subject_id).await;
            setbacks.capture(found)?.flatten()
        };
        let Some(account) = account else {
            continue;
        };
        let taken_in = add_member(client, &group, &account, changes).await;
        if setbacks.capture(taken_in)?.is_some() {
            followed.team.push((user.id, account.pk));
        }
    }
    Ok(followed)
}

/// Brings the one who is invited into the group. Whatever is to be done about others is no reason for them to wait.
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

/// Makes somebody a member of the group. Suspended tenants keep nobody out who works for a partner.
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
            .unfreeze_user(account, tenant_id, Mode::Apply)
            .await?;
        changes.extend(lifted.changes);
    }
    Ok(())
}

/// Has the tenants that keep their members out look again at those who may not sign in for a partner's sake any more.
async fn freeze_again(run: &StepContext, leavers: &[Account]) -> Result<(), StepFailure> {
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
            // Made once for each leaver, however often this is tried.
            let subject = format!("{tenant_id}:{}", leaver.uuid);
            reconciles.push(reconcile.child_of(&run.job, &subject));
        }
    }
    run.ctx.jobs.enqueue_many(&reconciles).await?;
    let jobs: Vec<Job> = reconciles.iter().map(|new| new.job().clone()).collect();
    run.ctx.ready.notify(&jobs).await;
    Ok(())
}

fn is_account_of(account: &Account, user: &User) -> bool {
    account.uuid == user.authentik_subject_id
}

/// The partner's group. A partner that was terminated is given none.
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
