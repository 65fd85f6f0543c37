//! A tenant in Authentik: its group, its owner, and whether its members may sign in.

use dezky_shared::{
    id::PartnerId,
    store::StoreError,
    tenant::{DesiredState, Owner, Tenant, reason},
};
use dezky_upstreams::clients::{
    ClientError,
    authentik::{Authentik, Group, User},
};

use super::{applies, settled, tenant_of};
use crate::{
    jobs::partial_failure::PartialFailures,
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

/// Brings the tenant's group and its members to the intent.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.trusting(&run.trust);
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
    let mut facts = UpstreamRefs::default();
    if let Some(group) = &ensured.value {
        facts.authentik_group_id = Some(Some(group.id.clone()));
    }

    let mut setbacks = PartialFailures::default();
    if let Some(owner) = tenant
        .owner
        .as_ref()
        .filter(|owner| owner.subject.is_none())
    {
        let group = ensured.value.as_ref();
        let welcomed = ensure_owner(run, client, tenant, group, owner, &mut changes).await;
        facts.owner_subject = setbacks.capture(welcomed)?.flatten();
    }
    if let Some(group) = &ensured.value {
        let members = client.list_members(&group.id).await?;
        match intent {
            DesiredState::Active => {
                unfreeze(run, client, tenant, &members, &mut changes, &mut setbacks).await?;
            }
            _ => freeze(run, client, tenant, &members, &mut changes, &mut setbacks).await?,
        }
    }
    setbacks.finish()?;
    Ok(StepSuccess::ok(settled(intent), changes, facts))
}

/// Makes the owner's account and puts it in the group, once: who leaves the group later has left it.
async fn ensure_owner(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    group: Option<&Group>,
    owner: &Owner,
    changes: &mut Vec<String>,
) -> Result<Option<String>, ClientError> {
    let Some(group) = group.filter(|_| applies(run.mode)) else {
        changes.push("owner welcomed".to_owned());
        return Ok(None);
    };
    let partner = tenant.partner_id.map(|id| id.to_string());
    let user = client
        .ensure_owner(&owner.email, &owner.name, partner.as_deref())
        .await?;
    client.add_member(&group.id, user.pk).await?;
    changes.push("owner welcomed".to_owned());
    Ok(Some(user.uuid))
}

/// Keeps members from signing in, except those who may for another reason.
async fn freeze(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    members: &[User],
    changes: &mut Vec<String>,
    setbacks: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let exempt = Exempt::find(run, tenant, members).await?;
    let id = tenant.id.to_string();
    for user in members {
        let ensured = if exempt.covers(user) {
            client.unfreeze_user(user, &id, run.mode).await
        } else {
            client.freeze_user(user, &id, run.mode).await
        };
        if let Some(ensured) = setbacks.capture(ensured)? {
            changes.extend(ensured.changes);
        }
    }
    Ok(())
}

/// Lifts what suspending tenants froze, this one or another: a member of an active tenant may sign in. Who is no
/// member any more is let go by this tenant alone.
async fn unfreeze(
    run: &StepContext,
    client: &Authentik,
    tenant: &Tenant,
    members: &[User],
    changes: &mut Vec<String>,
    setbacks: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let id = tenant.id.to_string();
    let mut left = client.list_frozen(&id).await?;
    left.retain(|user| members.iter().all(|member| member.pk != user.pk));
    for user in members.iter().chain(&left) {
        for tenant_id in user.frozen_by() {
            let ensured = client.unfreeze_user(user, tenant_id, run.mode).await;
            if let Some(ensured) = setbacks.capture(ensured)? {
                changes.extend(ensured.changes);
            }
        }
    }
    Ok(())
}

/// Removes the group. Its members' accounts stay, frozen: they may hold what somebody will want back, and without
/// the group nobody could tell any more whom to keep out.
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
        let mut setbacks = PartialFailures::default();
        freeze(run, client, tenant, &members, &mut changes, &mut setbacks).await?;
        setbacks.finish()?;
    }
    let removed = client.delete_group(&id, known, run.mode).await?;
    changes.extend(removed.changes);
    let facts = UpstreamRefs {
        authentik_group_id: Some(None),
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(reason::REMOVED, changes, facts))
}

/// Members of a suspended tenant who may sign in all the same.
struct Exempt {
    /// Groups of other tenants that are not suspended.
    open_groups: Vec<String>,
    /// The subjects of our own operators.
    operators: Vec<String>,
    /// The subjects of those who work for a partner that has not left.
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
        // Not every operator has signed in with us yet.
        user.is_superuser
            || self.operators.contains(&user.uuid)
            || self.staff.contains(&user.uuid)
            || user
                .groups
                .iter()
                .any(|group| self.open_groups.contains(group))
    }
}

/// Those of `subjects` who work for a partner that has not left: no customer of it keeps them out.
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
