//! Tenant in Authentik: the group, the owner's account, and the members' sign-in.

use dezky_shared::{
    id::PartnerId,
    store::StoreError,
    tenant::{DesiredState, Owner, Tenant, reason},
};
use dezky_upstreams::clients::{
    ClientError,
    authentik::{Authentik, Group, User},
};

use super::{applies, converged_reason, tenant_of};
use crate::{
    jobs::partial_failure::PartialFailures,
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

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
    let ensured = client
        .ensure_group(&tenant.slug, &id, known, run.mode)
        .await?;
    let mut changes = ensured.changes;
    let mut refs = UpstreamRefs::default();
    if let Some(group) = &ensured.value {
        refs.authentik_group_id = Some(Some(group.id.clone()));
    }

    let mut failures = PartialFailures::default();
    if let Some(owner) = tenant
        .owner
        .as_ref()
        .filter(|owner| owner.subject.is_none())
    {
        let group = ensured.value.as_ref();
        let granted = ensure_owner(run, client, tenant, group, owner, &mut changes).await;
        refs.owner_subject = failures.capture(granted)?.flatten();
    }
    if let Some(group) = &ensured.value {
        let members = client.list_members(&group.id).await?;
        match intent {
            DesiredState::Active => {
                unfreeze(run, client, tenant, &members, &mut changes, &mut failures).await?;
            }
            _ => freeze(run, client, tenant, &members, &mut changes, &mut failures).await?,
        }
    }
    failures.finish()?;
    Ok(StepSuccess::ok(converged_reason(intent), changes, refs))
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

/// Blocks sign-in for all members, except [exempt](Exempt) ones.
async fn freeze(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    members: &[User],
    changes: &mut Vec<String>,
    failures: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let exempt = Exempt::find(run, tenant, members).await?;
    let id = tenant.id.to_string();
    for user in members {
        let ensured = if exempt.covers(user) {
            client.unfreeze_user(user, &id, run.mode).await
        } else {
            client.freeze_user(user, &id, run.mode).await
        };
        if let Some(ensured) = failures.capture(ensured)? {
            changes.extend(ensured.changes);
        }
    }
    Ok(())
}

/// Restores sign-in. For members of this active tenant, freezes by any tenant are lifted; for former members, only this
/// tenant's.
async fn unfreeze(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    members: &[User],
    changes: &mut Vec<String>,
    failures: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let id = tenant.id.to_string();
    let mut former_members = client.list_frozen(&id).await?;
    former_members.retain(|user| members.iter().all(|member| member.pk != user.pk));
    for user in members.iter().chain(&former_members) {
        for tenant_id in user.frozen_by() {
            let ensured = client.unfreeze_user(user, tenant_id, run.mode).await;
            if let Some(ensured) = failures.capture(ensured)? {
                changes.extend(ensured.changes);
            }
        }
    }
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
    let mut changes = Vec::new();
    if let Some(group) = client.find_group(&id, known).await? {
        let members = client.list_members(&group.id).await?;
        let mut failures = PartialFailures::default();
        freeze(run, client, tenant, &members, &mut changes, &mut failures).await?;
        failures.finish()?;
    }
    let removed = client.delete_group(&id, known, run.mode).await?;
    changes.extend(removed.changes);
    let refs = UpstreamRefs {
        authentik_group_id: Some(None),
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(reason::REMOVED, changes, refs))
}

/// Members of a suspended tenant who may still sign in.
struct Exempt {
    /// Groups of other tenants that grant sign-in.
    open_groups: Vec<String>,
    /// Subjects of operators.
    operators: Vec<String>,
    /// Subjects of team members of active partners.
    staff: Vec<String>,
}

impl Exempt {
    async fn find(
        run: &StepContext,
        tenant: &Tenant,
        members: &[User],
    ) -> Result<Self, StoreError> {
        let groups: Vec<String> = members
            .iter()
            .flat_map(|user| user.groups.clone())
            .collect();
        let subjects: Vec<&str> = members.iter().map(|user| user.uuid.as_str()).collect();
        Ok(Self {
            open_groups: run
                .ctx
                .tenants
                .groups_granting_sign_in(&groups, tenant.id)
                .await?,
            operators: run.ctx.users.list_operators(&subjects).await?,
            staff: staff_among(run, &subjects).await?,
        })
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
