//! Member at the identity provider: the account, its place in the tenant's group, its password, and its suspension.
//!
//! An account that [the tenant owns](ownership::owns) is deactivated by a suspension and deleted by a removal. Any other one
//! only loses the tenant's group, and then its tokens for the tenant's apps: its sessions are the person's, who may use
//! them elsewhere.

mod reclaim;

use dezky_shared::{
    account::AccountAccess,
    member::SignInAccount,
    tenant::{DesiredState, reason as tenant_reason},
};
use dezky_upstreams::clients::{
    Mode,
    authentik::{Authentik, EndedSessions, Freeze, Group, MemberAccount, User},
};

pub(in crate::jobs) use self::reclaim::reclaim_account;
use super::{
    MemberTarget, begin_purge, converged_reason, issued_password, not_ready, ownership, reason,
    status::MemberRefs, target_of,
};
use crate::{
    jobs::tenant::may_sign_in_while_suspended,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Converges the account to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let target = target_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    if target.is_purged() {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }
    let step = AccountStep {
        run: &run,
        target,
        client: client.with_deadline(&run.deadline),
        tenant_id: target.tenant.id.to_string(),
        member_id: target.member.id.to_string(),
    };
    match target.desired_state {
        DesiredState::Active => step.provision().await,
        DesiredState::Suspended => step.suspend().await,
        DesiredState::Gone => step.remove().await,
    }
}

/// The member's account, if it exists.
pub(super) async fn find(
    client: &Authentik,
    target: &MemberTarget,
) -> Result<Option<User>, StepFailure> {
    let id = target.member.id.to_string();
    Ok(client.find_member(&wanted(target, &id)).await?)
}

/// Revokes the account's tokens for the tenant's apps.
pub(super) async fn end_app_tokens(
    run: &StepContext,
    client: &Authentik,
    target: &MemberTarget,
    user: &User,
) -> Result<EndedSessions, StepFailure> {
    let providers = run.ctx.apps.list_providers(target.tenant.id).await?;
    Ok(client.end_app_tokens(user, &providers).await?)
}

/// The account that the member should have.
fn wanted<'a>(target: &'a MemberTarget, member_id: &'a str) -> MemberAccount<'a> {
    let member = &target.member;
    let known = member.authentik.as_ref();
    MemberAccount {
        member_id,
        login: &member.email,
        name: &member.name,
        known: known.map(|account| (account.pk, account.subject.as_str())),
    }
}

/// The step of one attempt.
struct AccountStep<'a> {
    run: &'a StepContext,
    target: &'a MemberTarget,
    client: Authentik,
    tenant_id: String,
    member_id: String,
}

impl AccountStep<'_> {
    async fn provision(&self) -> Result<StepSuccess, StepFailure> {
        let mut changes = Vec::new();
        let group = self.group(&mut changes).await?;
        let (user, is_ours) = self.admitted(&mut changes).await?;
        let mut account = ownership::account_of(&self.target.member, &user);
        if is_ours {
            let wanted = wanted(self.target, &self.member_id);
            changes.extend(self.client.restore_profile(&user, &wanted).await?);
        }
        // Before the own mark is lifted: the account would be active in between.
        self.apply_tenant_suspension(&user, &mut changes).await?;
        self.lift_suspension(&user, &mut changes).await?;
        self.lift_tenants_suspensions(&user, &mut changes).await?;
        if !user.groups.contains(&group.id) {
            self.client.add_member(&group.id, user.pk).await?;
            changes.push("member added to the group".to_owned());
        }
        if is_ours {
            self.set_password(&mut account, &mut changes).await?;
        }
        let reason = if is_ours && account.password_issued_at.is_none() {
            reason::PASSWORD_MISSING
        } else {
            converged_reason(self.target)
        };
        Ok(StepSuccess::ok(reason, changes).with_refs(MemberRefs {
            account: Some(account),
            ..MemberRefs::default()
        }))
    }

    /// Suspends the account. One that does not exist is created for the password that the job carries: it was told once,
    /// and is in force when the member is resumed.
    async fn suspend(&self) -> Result<StepSuccess, StepFailure> {
        let mut changes = Vec::new();
        let user = match find(&self.client, self.target).await? {
            Some(user) => user,
            None if self.carries_password()? => self.admitted(&mut changes).await?.0,
            None => return Ok(StepSuccess::skipped(tenant_reason::SUSPENDED)),
        };
        let mut refs = MemberRefs::of_person(&user);
        if ownership::owns(self.run, self.target, &user).await? {
            let freeze = Freeze::Member(&self.member_id);
            let frozen = self.client.freeze_user(&user, freeze, Mode::Apply).await?;
            changes.extend(frozen.changes);
            if self.carries_password()? {
                let mut account = ownership::account_of(&self.target.member, &user);
                self.set_password(&mut account, &mut changes).await?;
                refs = MemberRefs {
                    account: Some(account),
                    ..MemberRefs::default()
                };
            }
        } else {
            refs.left_generation = self.leave_group(&user, &mut changes).await?;
            // Last: the account may have been the tenant's when it was deactivated.
            self.lift_suspension(&user, &mut changes).await?;
        }
        Ok(StepSuccess::ok(tenant_reason::SUSPENDED, changes).with_refs(refs))
    }

    /// Whether the job carries the member's password, and it is not in force yet.
    fn carries_password(&self) -> Result<bool, StepFailure> {
        let member = &self.target.member;
        let known = member.authentik.as_ref();
        let in_force = known.and_then(|account| account.password_issued_at);
        Ok(issued_password(self.run, member, in_force)?.is_some())
    }

    /// Sets the password that the job carries, if there is one and it is not in force.
    async fn set_password(
        &self,
        account: &mut SignInAccount,
        changes: &mut Vec<String>,
    ) -> Result<(), StepFailure> {
        let in_force = account.password_issued_at;
        if let Some(issued) = issued_password(self.run, &self.target.member, in_force)? {
            self.client
                .set_password(account.pk, &issued.password)
                .await?;
            changes.push("password set".to_owned());
            account.password_issued_at = Some(issued.issued_at);
        }
        Ok(())
    }

    async fn remove(&self) -> Result<StepSuccess, StepFailure> {
        let Some(user) = find(&self.client, self.target).await? else {
            return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
        };
        begin_purge(self.run, self.target).await?;
        let mut changes = Vec::new();
        let mut refs = MemberRefs::of_person(&user);
        if ownership::owns(self.run, self.target, &user).await? {
            if self.client.delete_member(&user, &self.member_id).await? {
                changes.push("account deleted".to_owned());
            }
        } else {
            refs.left_generation = self.leave_group(&user, &mut changes).await?;
            self.lift_suspension(&user, &mut changes).await?;
        }
        Ok(StepSuccess::ok(tenant_reason::REMOVED, changes).with_refs(refs))
    }

    /// The account, which is created, admitted, or reclaimed. With it, whether it is the tenant's.
    async fn admitted(&self, changes: &mut Vec<String>) -> Result<(User, bool), StepFailure> {
        let user = if let Some(user) = find(&self.client, self.target).await? {
            user
        } else {
            let claimant = ownership::Claimant::member(self.target);
            ownership::ensure_may_create(self.run, claimant).await?;
            let wanted = wanted(self.target, &self.member_id);
            self.client.create_member(&wanted).await?
        };
        match ownership::access_to(self.run, self.target, &user).await? {
            AccountAccess::Owned => Ok((user, true)),
            AccountAccess::Usable => Ok((user, false)),
            AccountAccess::Refused => Err(ownership::refused()),
            AccountAccess::Reclaimable => {
                let issued = issued_password(self.run, &self.target.member, None)?;
                let password = issued.map(|issued| issued.password);
                let id = Some(self.member_id.as_str());
                let user = reclaim_account(self.run, &self.client, &user, id, password).await?;
                changes.push("account left behind by a former member reclaimed".to_owned());
                Ok((user, true))
            }
        }
    }

    /// The tenant's group, which is created again if it was deleted.
    async fn group(&self, changes: &mut Vec<String>) -> Result<Group, StepFailure> {
        let tenant = &self.target.tenant;
        let known = tenant.authentik_group_id.as_deref();
        if known.is_none() {
            return Err(not_ready("the tenant's group is not provisioned yet"));
        }
        let (slug, id) = (&tenant.slug, &self.tenant_id);
        let ensured = self.client.ensure_group(slug, id, known, Mode::Apply);
        let ensured = ensured.await?;
        changes.extend(ensured.changes);
        ensured
            .value
            .ok_or_else(|| not_ready("the tenant's group is missing"))
    }

    /// Blocks sign-in on behalf of a suspended tenant, unless the account is not of its making or the person may sign in
    /// regardless.
    async fn apply_tenant_suspension(
        &self,
        user: &User,
        changes: &mut Vec<String>,
    ) -> Result<(), StepFailure> {
        let tenant = &self.target.tenant;
        if self.target.tenant_desired_state == DesiredState::Active
            || !user.was_created_for_member(&self.member_id)
            || may_sign_in_while_suspended(self.run, tenant, user).await?
        {
            return Ok(());
        }
        let freeze = Freeze::Tenant(&self.tenant_id);
        let frozen = self.client.freeze_user(user, freeze, Mode::Apply).await?;
        changes.extend(frozen.changes);
        Ok(())
    }

    async fn lift_suspension(
        &self,
        user: &User,
        changes: &mut Vec<String>,
    ) -> Result<(), StepFailure> {
        let freeze = Freeze::Member(&self.member_id);
        if user.is_frozen_by(freeze) {
            let lifted = self.client.unfreeze_user(user, freeze, Mode::Apply).await?;
            changes.extend(lifted.changes);
        }
        Ok(())
    }

    /// Restores sign-in that the suspension of any tenant has taken, while this one is active: its own reconcile does so,
    /// too.
    async fn lift_tenants_suspensions(
        &self,
        user: &User,
        changes: &mut Vec<String>,
    ) -> Result<(), StepFailure> {
        if self.target.tenant_desired_state != DesiredState::Active {
            return Ok(());
        }
        for tenant_id in user.frozen_by() {
            let freeze = Freeze::Tenant(tenant_id);
            let lifted = self.client.unfreeze_user(user, freeze, Mode::Apply).await?;
            changes.extend(lifted.changes);
        }
        Ok(())
    }

    /// Takes the account out of the tenant's group, and then ends its tokens for the tenant's apps: a sign-in in between
    /// is refused. Returns the generation for which that is done, so that a repeated attempt does it again and a later job
    /// does not.
    async fn leave_group(
        &self,
        user: &User,
        changes: &mut Vec<String>,
    ) -> Result<Option<i64>, StepFailure> {
        let member = &self.target.member;
        let group = self.target.tenant.authentik_group_id.as_ref();
        let group = group.filter(|group| user.groups.contains(group));
        if group.is_none() && member.left_generation == Some(member.generation) {
            return Ok(None);
        }
        if let Some(group) = group {
            self.client.remove_member(group, user.pk).await?;
            changes.push("member removed from the group".to_owned());
        }
        let ended = end_app_tokens(self.run, &self.client, self.target, user).await?;
        changes.extend(ended.change());
        Ok(Some(member.generation))
    }
}
