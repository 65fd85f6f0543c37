//! Tenant in Authentik: the group, the owner's account, the apps, and the members' sign-in.

use std::collections::BTreeSet;

use dezky_shared::{
    account::AccountAccess,
    id::PartnerId,
    queue::error_code::ErrorCode,
    store::StoreError,
    tenant::{DesiredState, Owner, Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::{
    Ensured,
    authentik::{Authentik, Freeze, GROUP_CREATED, Group, User},
};
use futures::TryFutureExt as _;

use super::{
    applies, converged_reason,
    freshness::is_fresh,
    members::{Listed, remove_all as remove_members, repair},
    tenant_of,
};
use crate::{
    jobs::{
        app,
        item_work::ItemWork,
        member::{
            Claimant, account_facts, ensure_may_create_account, reclaim_account, refuse_account,
        },
    },
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Members looked up in one query.
const LOOKUP: usize = 1_000;

/// Converges the group and its members to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.deadline);
    match desired_state {
        DesiredState::Gone => remove(&run, &client, tenant).await,
        DesiredState::Active | DesiredState::Suspended => {
            provision(&run, &client, tenant, desired_state).await
        }
    }
}

async fn provision(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    desired_state: DesiredState,
) -> Result<StepSuccess, StepFailure> {
    let mut work = ItemWork::resume(run, Upstream::Authentik.name());
    let TenantGroup { ensured, is_new } = TenantGroup::ensure(run, client, tenant).await?;
    work.changes.extend(ensured.changes);
    let mut admitted = None;
    if let Some(group) = &ensured.value {
        work.refs.authentik_group_id = Some(Some(group.id.clone()));
    }
    if let Some(owner) = tenant
        .owner
        .as_ref()
        .filter(|owner| owner.subject.is_none())
    {
        let group = ensured.value.as_ref();
        admitted = ensure_owner(run, client, tenant, group, owner, &mut work).await?;
        work.refs.owner_subject = admitted.as_ref().map(|user| user.uuid.clone());
    }
    if let Some(group) = &ensured.value {
        app::converge_all(run, client, tenant, &group.id, desired_state, &mut work).await?;
        let members = if is_new {
            admitted.into_iter().collect()
        } else {
            client.list_members(&group.id).await?
        };
        let listed = Listed::accounts(&members);
        match desired_state {
            DesiredState::Active => {
                let frozen = if is_new {
                    Vec::new()
                } else {
                    client.list_frozen(&tenant.id.to_string()).await?
                };
                unfreeze(run, client, members, frozen, &mut work).await?;
            }
            _ => freeze(run, client, tenant, members, &mut work).await?,
        }
        if !work.is_unfinished() {
            repair(run, tenant, &listed, &mut work).await?;
        }
    }
    work.finish(converged_reason(desired_state))
}

/// The tenant's group as this attempt ensured it.
struct TenantGroup {
    ensured: Ensured<Group>,
    /// Whether it was created just now for a fresh tenant: it has no members, and the tenant has frozen no account.
    is_new: bool,
}

impl TenantGroup {
    async fn ensure(
        run: &StepContext,
        client: &Authentik,
        tenant: &Tenant,
    ) -> Result<Self, StepFailure> {
        let id = tenant.id.to_string();
        if is_fresh(run, tenant, Upstream::Authentik)
            && let Some(group) = client.create_tenant_group(&tenant.slug, &id).await?
        {
            let ensured = Ensured {
                value: Some(group),
                changes: vec![GROUP_CREATED.to_owned()],
            };
            return Ok(Self {
                ensured,
                is_new: true,
            });
        }
        let known = tenant.authentik_group_id.as_deref();
        let ensured = client.ensure_group(&tenant.slug, &id, known, run.mode);
        Ok(Self {
            ensured: ensured.await?,
            is_new: false,
        })
    }
}

/// Ensures the owner's account and adds it to the group, once: an owner who is removed from the group later is not
/// added again. Returns the owner's account as a member, unless that failed for the owner alone.
async fn ensure_owner(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    group: Option<&Group>,
    owner: &Owner,
    work: &mut ItemWork<'_>,
) -> Result<Option<User>, StepFailure> {
    const ADDED: &str = "owner added to the group";
    let Some(group) = group.filter(|_| applies(run.mode)) else {
        work.changes.push(ADDED.to_owned());
        return Ok(None);
    };
    let login = owner.email.to_lowercase();
    let claimant = Claimant::tenant(tenant, &login);
    let Some(mut user) = owner_account(run, client, claimant, owner, work).await? else {
        return Ok(None);
    };
    let facts = account_facts(run, claimant, &user).await?;
    match facts.access() {
        AccountAccess::Owned | AccountAccess::Usable => {}
        // The owner chooses a password by the recovery flow, as the owner of a new account does.
        AccountAccess::Reclaimable => {
            reclaim_account(run, client, &user, None, None).await?;
            let change = "account left behind by a former member reclaimed";
            work.changes.push(change.to_owned());
        }
        AccountAccess::Refused => {
            work.fail(refuse_account());
            return Ok(None);
        }
    }
    let added = client.add_member(&group.id, user.pk).await;
    if work.capture(added)?.is_none() {
        return Ok(None);
    }
    work.changes.push(ADDED.to_owned());
    user.groups.push(group.id.clone());
    Ok(Some(user))
}

/// The owner's account, created unless another tenant speaks for the login. `None` if that failed for the owner alone.
async fn owner_account(
    run: &StepContext,
    client: &Authentik,
    claimant: Claimant<'_>,
    owner: &Owner,
    work: &mut ItemWork<'_>,
) -> Result<Option<User>, StepFailure> {
    let found = client.find_user(&owner.email).await;
    let Some(found) = work.capture(found)? else {
        return Ok(None);
    };
    if found.is_some() {
        return Ok(found);
    }
    match ensure_may_create_account(run, claimant).await {
        Ok(()) => {}
        Err(failure) if failure.code == ErrorCode::AccountTaken => {
            work.fail(failure);
            return Ok(None);
        }
        Err(failure) => return Err(failure),
    }
    let attributes = serde_json::Map::new();
    let created = client
        .create_absent_user(&owner.email, &owner.name, &attributes)
        .await;
    work.capture(created)
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
    let freeze = Freeze::Tenant(&id);
    let (spared, blocked): (Vec<User>, Vec<User>) =
        members.into_iter().partition(|user| exempt.covers(user));
    let blocked = blocked.into_iter().filter(|user| !user.is_suspended());
    let (mut frozen, open): (Vec<User>, Vec<User>) =
        blocked.partition(|user| !user.is_active && user.is_frozen_by(freeze));

    if work.continues_scan() && (open.is_empty() || work.has_failures()) {
        // An earlier attempt has blocked them and ended their sessions.
        return Ok(());
    }
    if !work.continues_pass() {
        work.begin("members suspended", frozen.len(), frozen.len() + open.len());
        let freezing = async |user| client.freeze_user(user, freeze, run.mode).await;
        work.each(&open, |user| freezing(user).map_ok(|it| it.changes))
            .await?;
        let spared = spared.into_iter().filter(|user| user.is_frozen_by(freeze));
        let spared: Vec<User> = spared.collect();
        let unfreezing = async |user| client.unfreeze_user(user, freeze, run.mode).await;
        work.each(&spared, |user| unfreezing(user).map_ok(|it| it.changes))
            .await?;
    } else if !open.is_empty() && !work.has_failures() {
        // They are new, and are frozen first. Frozen during the pass, they could be behind its position when this attempt
        // is interrupted.
        work.start_over();
    }
    if applies(run.mode) && !work.is_unfinished() {
        frozen.sort_by_key(|user| user.pk);
        end_sessions(client, &frozen, work).await?;
    }
    Ok(())
}

/// Ends the sessions and app passwords of users who cannot sign in, in a pass in the order of their keys.
async fn end_sessions(
    client: &Authentik,
    users: &[User],
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let ending = async |user| {
        let ended = client.end_access(user).await?;
        Ok(ended.change().into_iter().collect())
    };
    work.pass("members signed out", users, |user| user.pk, ending)
        .await
}

/// Restores sign-in. For members of this active tenant, freezes by any tenant are lifted; for former members, which are
/// among those that it has `frozen`, only this tenant's.
async fn unfreeze(
    run: &StepContext,
    client: &Authentik,
    members: Vec<User>,
    mut frozen: Vec<User>,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let present: BTreeSet<i64> = members.iter().map(|member| member.pk).collect();
    frozen.retain(|user| !present.contains(&user.pk));
    let all = members.len();
    let users = members.into_iter().chain(frozen);
    let frozen: Vec<User> = users.filter(|user| !user.frozen_by().is_empty()).collect();
    work.begin("members resumed", all.saturating_sub(frozen.len()), all);
    let unfreezing = async |user: &User| {
        let mut changes = Vec::new();
        for tenant_id in user.frozen_by() {
            let ensured = client
                .unfreeze_user(user, Freeze::Tenant(tenant_id), run.mode)
                .await?;
            changes.extend(ensured.changes);
        }
        Ok(changes)
    };
    work.each(&frozen, unfreezing).await
}

/// Removes the group. Its members' accounts are frozen first: without the group it is unknown whose sign-in to block. Those
/// that were created for members of the tenant are then deleted by jobs of their own; others are the persons'.
async fn remove(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
) -> Result<StepSuccess, StepFailure> {
    let id = tenant.id.to_string();
    let known = tenant.authentik_group_id.as_deref();
    let mut work = ItemWork::resume(run, Upstream::Authentik.name());
    if let Some(group) = client.find_group(&id, known).await? {
        let members = client.list_members(&group.id).await?;
        freeze(run, client, tenant, members, &mut work).await?;
        if work.is_unfinished() {
            return work.finish(reason::REMOVED);
        }
        work.check_failures()?;
    }
    remove_members(run, tenant).await?;
    // Before the group: its deletion takes the bindings away that restrict the apps.
    app::remove_all(run, client, tenant, &mut work).await?;
    let removed = client.delete_group(&id, known, run.mode).await?;
    work.changes.extend(removed.changes);
    work.refs.authentik_group_id = Some(None);
    work.finish(reason::REMOVED)
}

/// Whether the user may sign in although the tenant is suspended.
pub(in crate::jobs) async fn may_sign_in_while_suspended(
    run: &StepContext,
    tenant: &Tenant,
    user: &User,
) -> Result<bool, StoreError> {
    let exempt = Exempt::find(run, tenant, std::slice::from_ref(user)).await?;
    Ok(exempt.covers(user))
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
    /// Subjects of members whose accounts the tenant did not create: those belong to the persons.
    adopted: BTreeSet<String>,
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
            let adopted = run.ctx.members.list_adopted(tenant.id, &subjects).await?;
            exempt.adopted.extend(adopted);
        }
        Ok(exempt)
    }

    fn covers(&self, user: &User) -> bool {
        // An operator who has not signed in yet has no user document.
        user.is_superuser
            || self.operators.contains(&user.uuid)
            || self.staff.contains(&user.uuid)
            || self.adopted.contains(&user.uuid)
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
