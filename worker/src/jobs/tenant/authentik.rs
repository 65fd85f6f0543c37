//! Tenant in Authentik: the group, the owner's account, and the members' sign-in.

use std::collections::BTreeSet;

use dezky_shared::{
    id::PartnerId,
    store::StoreError,
    tenant::{DesiredState, Owner, Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::{
    ClientError,
    authentik::{Authentik, Group, User},
};

use futures::TryFutureExt as _;

use super::{applies, converged_reason, tenant_of};
use crate::{
    jobs::item_work::ItemWork,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Members looked up in one query.
const LOOKUP: usize = 1_000;

/// Converges the group and its members to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.trust);
    match intent {
        DesiredState::Gone => remove(&run, &client, tenant).await,
        DesiredState::Active | DesiredState::Suspended => {
            provision(&run, &client, tenant, intent).await
        }
    }
}

async fn provision(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    intent: DesiredState,
) -> Result<StepSuccess, StepFailure> {
    let id = tenant.id.to_string();
    let known = tenant.authentik_group_id.as_deref();
    let mut work = ItemWork::resume(run, Upstream::Authentik);
    let ensured = client
        .ensure_group(&tenant.slug, &id, known, run.mode)
        .await?;
    work.changes.extend(ensured.changes);
    if let Some(group) = &ensured.value {
        work.refs.authentik_group_id = Some(Some(group.id.clone()));
    }
    if let Some(owner) = tenant
        .owner
        .as_ref()
        .filter(|owner| owner.subject.is_none())
    {
        let group = ensured.value.as_ref();
        let granted = ensure_owner(run, client, tenant, group, owner, &mut work.changes).await;
        work.refs.owner_subject = work.capture(granted)?.flatten();
    }
    if let Some(group) = &ensured.value {
        let members = client.list_members(&group.id).await?;
        match intent {
            DesiredState::Active => unfreeze(run, client, tenant, members, &mut work).await?,
            _ => freeze(run, client, tenant, members, &mut work).await?,
        }
    }
    work.finish(converged_reason(intent))
}

/// Ensures the owner's account and adds it to the group, once: an owner who is removed from the group later is not
/// added again.
async fn ensure_owner(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    group: Option<&Group>,
    owner: &Owner,
    changes: &mut Vec<String>,
) -> Result<Option<String>, ClientError> {
    let Some(group) = group.filter(|_| applies(run.mode)) else {
        changes.push("owner added to the group".to_owned());
        return Ok(None);
    };
    let partner = tenant.partner_id.map(|id| id.to_string());
    let user = client
        .ensure_owner(&owner.email, &owner.name, partner.as_deref())
        .await?;
    client.add_member(&group.id, user.pk).await?;
    changes.push("owner added to the group".to_owned());
    Ok(Some(user.uuid))
}

/// Blocks sign-in for all members, except [exempt](Exempt) ones: first for those who can sign in now. Then ends the
/// sessions of those who cannot: an interrupted attempt or a login in progress may have left some.
async fn freeze(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    members: Vec<User>,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let exempt = Exempt::find(run, tenant, &members).await?;
    let id = tenant.id.to_string();
    let (spared, blocked): (Vec<User>, Vec<User>) =
        members.into_iter().partition(|user| exempt.covers(user));
    let blocked = blocked.into_iter().filter(|user| !user.is_suspended());
    let (mut frozen, open): (Vec<User>, Vec<User>) =
        blocked.partition(|user| !user.is_active && user.is_frozen_by(&id));

    work.begin("members suspended", frozen.len(), frozen.len() + open.len());
    let freezing = async |user| client.freeze_user(user, &id, run.mode).await;
    work.each(&open, |user| freezing(user).map_ok(|it| it.changes))
        .await?;
    let spared = spared.into_iter().filter(|user| user.is_frozen_by(&id));
    let spared: Vec<User> = spared.collect();
    let unfreezing = async |user| client.unfreeze_user(user, &id, run.mode).await;
    work.each(&spared, |user| unfreezing(user).map_ok(|it| it.changes))
        .await?;
    if applies(run.mode) {
        frozen.sort_by_key(|user| user.pk);
        end_sessions(client, frozen, work).await?;
    }
    Ok(())
}

/// Ends the sessions of users who cannot sign in, in the order of their keys. The cursor is the key of the last user whose
/// sessions were ended in this job.
async fn end_sessions(
    client: &Authentik,
    mut users: Vec<User>,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let all = users.len();
    let last: Option<i64> = work.cursor.as_ref().and_then(|last| last.parse().ok());
    users.retain(|user| last.is_none_or(|last| user.pk > last));
    if work.is_unfinished() {
        return Ok(());
    }
    work.begin("members signed out", all - users.len(), all);
    let ending = async |user| {
        let ended = client.end_sessions(user).await?;
        let change = (ended > 0).then(|| format!("{ended} sessions and tokens ended"));
        Ok(change.into_iter().collect())
    };
    let begun = work.each(&users, ending).await?;
    if let Some(last) = begun.checked_sub(1) {
        work.cursor = Some(users[last].pk.to_string());
    }
    Ok(())
}

/// Restores sign-in. For members of this active tenant, freezes by any tenant are lifted; for former members, only this
/// tenant's.
async fn unfreeze(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    members: Vec<User>,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let id = tenant.id.to_string();
    let mut former_members = client.list_frozen(&id).await?;
    former_members.retain(|user| members.iter().all(|member| member.pk != user.pk));
    let all = members.len();
    let users = members.into_iter().chain(former_members);
    let frozen: Vec<User> = users.filter(|user| !user.frozen_by().is_empty()).collect();
    work.begin("members resumed", all.saturating_sub(frozen.len()), all);
    let unfreezing = async |user: &User| {
        let mut changes = Vec::new();
        for tenant_id in user.frozen_by() {
            let ensured = client.unfreeze_user(user, tenant_id, run.mode).await?;
            changes.extend(ensured.changes);
        }
        Ok(changes)
    };
    work.each(&frozen, unfreezing).await?;
    Ok(())
}

/// Removes the group. The members' accounts are kept and frozen first: they may hold data that is still needed, and
/// without the group it is unknown whose sign-in to block.
async fn remove(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
) -> Result<StepSuccess, StepFailure> {
    let id = tenant.id.to_string();
    let known = tenant.authentik_group_id.as_deref();
    let mut work = ItemWork::resume(run, Upstream::Authentik);
    if let Some(group) = client.find_group(&id, known).await? {
        let members = client.list_members(&group.id).await?;
        freeze(run, client, tenant, members, &mut work).await?;
        if work.is_unfinished() {
            return work.finish(reason::REMOVED);
        }
        work.check_failures()?;
    }
    let removed = client.delete_group(&id, known, run.mode).await?;
    work.changes.extend(removed.changes);
    work.refs.authentik_group_id = Some(None);
    work.finish(reason::REMOVED)
}

/// Members of a suspended tenant who may still sign in.
#[derive(Default)]
struct Exempt {
    /// Groups of other tenants that grant sign-in.
    open_groups: BTreeSet<String>,
    /// Subjects of operators.
    operators: BTreeSet<String>,
    /// Subjects of team members of active partners.
    staff: BTreeSet<String>,
}

impl Exempt {
    async fn find(
        run: &StepContext,
        tenant: &Tenant,
        members: &[User],
    ) -> Result<Self, StoreError> {
        let mut exempt = Self::default();
        for members in members.chunks(LOOKUP) {
            let groups: BTreeSet<&String> = members.iter().flat_map(|user| &user.groups).collect();
            let groups: Vec<String> = groups.into_iter().cloned().collect();
            let subjects: Vec<&str> = members.iter().map(|user| user.uuid.as_str()).collect();
            let tenants = &run.ctx.tenants;
            let open_groups = tenants.groups_granting_sign_in(&groups, tenant.id).await?;
            exempt.open_groups.extend(open_groups);
            let operators = run.ctx.users.list_operators(&subjects).await?;
            exempt.operators.extend(operators);
            exempt.staff.extend(staff_among(run, &subjects).await?);
        }
        Ok(exempt)
    }

    fn covers(&self, user: &User) -> bool {
        // An operator who has not signed in yet has no user document.
        user.is_superuser
            || self.operators.contains(&user.uuid)
            || self.staff.contains(&user.uuid)
            || user
                .groups
                .iter()
                .any(|group| self.open_groups.contains(group))
    }
}

/// Those of `subjects` who are team members of an active partner. A suspended tenant does not block a partner's team.
async fn staff_among(run: &StepContext, subjects: &[&str]) -> Result<Vec<String>, StoreError> {
    let staff = run.ctx.users.partners_of(subjects).await?;
    let partners: Vec<PartnerId> = staff.values().copied().collect();
    let active = run.ctx.partners.list_active(&partners).await?;
    Ok(staff
        .into_iter()
        .filter(|(_, partner)| active.contains(partner))
        .map(|(subject, _)| subject)
        .collect())
}
