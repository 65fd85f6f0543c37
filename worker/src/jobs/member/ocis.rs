//! Member on the file server: the user, and the place in the tenant's space.
//!
//! The user carries no mark, so its origin is known only from the create. One that was created for the member is disabled by
//! a suspension and deleted with the member, if the tenant owns the account at the identity provider: then the user of that
//! name is the tenant's, too. App tokens of the file server open it without the identity provider.

use std::collections::BTreeSet;

use dezky_shared::{
    account::AccountAccess,
    member::{AccountOrigin, FilesAccount},
    tenant::{DesiredState, reason as tenant_reason},
};
use dezky_upstreams::clients::{
    Mode,
    ocis::{FilesUser, Ocis},
};
use futures::FutureExt as _;

use super::{
    MemberTarget, authentik, begin_purge, converged_reason, not_ready, ownership, personal_space,
    status::MemberRefs, target_of,
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Converges the user to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let target = target_of(&run)?;
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    if target.is_purged() {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    }
    let client = client.with_deadline(&run.deadline);
    match target.desired_state {
        DesiredState::Active => provision(&run, &client, target).await,
        DesiredState::Suspended => suspend(&run, &client, target).await,
        DesiredState::Gone => remove(&run, &client, target).await,
    }
}

async fn provision(
    run: &StepContext,
    client: &Ocis,
    target: &MemberTarget,
) -> Result<StepSuccess, StepFailure> {
    let member = &target.member;
    ensure_admitted(run, target).await?;
    let mut changes = Vec::new();
    let (user, is_new) = match find(client, target).await? {
        Some(user) => (user, false),
        None => create(run, client, target).await?,
    };
    let mut account = account_of(target, &user, is_new);
    if is_new {
        changes.push("user created".to_owned());
    } else if account.origin == AccountOrigin::Created && user.display_name != member.name {
        client.rename_files_user(&user.id, &member.name).await?;
        changes.push("user renamed".to_owned());
    }
    if member.ocis.as_ref() != Some(&account) {
        record(run, target, &account).await?;
    }
    enable(client, &user, &mut account, &mut changes).await?;
    join_space(client, target, &user.id, &mut changes).await?;
    let found = (&user, &account);
    let personal_space = personal_space::converge(run, client, target, found, &mut changes).await?;
    let done = StepSuccess::ok(converged_reason(target), changes);
    Ok(done.with_refs(MemberRefs {
        files: Some(account),
        personal_space,
        ..MemberRefs::default()
    }))
}

/// Creates the user. Recorded before, since the user carries no mark: whatever becomes of the response and of this job,
/// a user who is found later was created for the member.
async fn create(
    run: &StepContext,
    client: &Ocis,
    target: &MemberTarget,
) -> Result<(FilesUser, bool), StepFailure> {
    let member = &target.member;
    if !member.ocis_create_begun {
        let (members, id, now) = (&run.ctx.members, member.id, run.ctx.store.now());
        run.fenced_transaction(members, |session, members| {
            members.begin_files_account(session, id, now).boxed()
        })
        .await?;
    }
    let created = client.create_or_find_files_user(&member.email, &member.name);
    Ok(created.await?)
}

/// Fails unless the account of the login is known to be the tenant's or admitted, or may be created: the user of an account
/// that another tenant may open must not get into the space, nor may a user of the file server await that account.
async fn ensure_admitted(run: &StepContext, target: &MemberTarget) -> Result<(), StepFailure> {
    let member = &target.member;
    if member.authentik.is_some() || run.ctx.clients.authentik.is_none() {
        return Ok(());
    }
    let unknown = || not_ready("the account at the identity provider is not known yet");
    match account_access(run, target).await? {
        None => {
            let claimant = ownership::Claimant::member(target);
            ownership::ensure_may_create(run, claimant).await?;
            if ownership::is_login_used_elsewhere(run, member).await? {
                return Err(unknown());
            }
            Ok(())
        }
        Some(AccountAccess::Owned | AccountAccess::Usable) => Ok(()),
        Some(AccountAccess::Reclaimable) => Err(unknown()),
        Some(AccountAccess::Refused) => Err(ownership::refused()),
    }
}

/// Access of the tenant to the account of the login at the identity provider; none if there is no such account.
async fn account_access(
    run: &StepContext,
    target: &MemberTarget,
) -> Result<Option<AccountAccess>, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(None);
    };
    let found = authentik::find(client, target).await;
    let found = found.map_err(|failure| {
        not_ready(format!(
            "the account cannot be looked up: {}",
            failure.detail
        ))
    })?;
    Ok(match found {
        Some(account) => Some(ownership::access_to(run, target, &account).await?),
        None => None,
    })
}

/// Whether the user is the tenant's to disable and delete: it was created for the member, and the tenant owns the account of
/// the login, or the account that there was.
async fn owns(
    run: &StepContext,
    target: &MemberTarget,
    user: &FilesUser,
) -> Result<bool, StepFailure> {
    if account_of(target, user, false).origin != AccountOrigin::Created {
        return Ok(false);
    }
    Ok(match account_access(run, target).await? {
        Some(access) => access == AccountAccess::Owned,
        None => ownership::owned(run, target).await?,
    })
}

/// Takes the user out of the space, and disables one that is the tenant's.
async fn suspend(
    run: &StepContext,
    client: &Ocis,
    target: &MemberTarget,
) -> Result<StepSuccess, StepFailure> {
    let mut changes = Vec::new();
    let user = find(client, target).await?;
    leave_space(client, target, user.as_ref(), &mut changes).await?;
    let refs = match &user {
        Some(user) if owns(run, target, user).await? => {
            disable(run, client, target, user, &mut changes).await?
        }
        user => release(client, target, user.as_ref(), &mut changes).await?,
    };
    Ok(StepSuccess::ok(tenant_reason::SUSPENDED, changes).with_refs(refs))
}

/// Disables a user who is the tenant's.
async fn disable(
    run: &StepContext,
    client: &Ocis,
    target: &MemberTarget,
    user: &FilesUser,
    changes: &mut Vec<String>,
) -> Result<MemberRefs, StepFailure> {
    let mut account = account_of(target, user, false);
    if user.account_enabled {
        account.disabled = true;
        // Before: a repeated attempt would take it for one that an administrator has disabled.
        record(run, target, &account).await?;
        client.set_files_user_enabled(&user.id, false).await?;
        changes.push("user disabled".to_owned());
    }
    Ok(MemberRefs {
        files: Some(account),
        ..MemberRefs::default()
    })
}

/// Enables a user who is not the tenant's, but may have been when a suspension disabled the user.
async fn release(
    client: &Ocis,
    target: &MemberTarget,
    user: Option<&FilesUser>,
    changes: &mut Vec<String>,
) -> Result<MemberRefs, StepFailure> {
    let mut files = target.member.ocis.clone();
    if let (Some(user), Some(account)) = (user, &mut files) {
        enable(client, user, account, changes).await?;
    }
    Ok(MemberRefs {
        files,
        ..MemberRefs::default()
    })
}

/// Enables a user whom the suspension of the member has disabled.
async fn enable(
    client: &Ocis,
    user: &FilesUser,
    account: &mut FilesAccount,
    changes: &mut Vec<String>,
) -> Result<(), StepFailure> {
    if account.disabled && account.user_id == user.id {
        if !user.account_enabled {
            client.set_files_user_enabled(&user.id, true).await?;
            changes.push("user enabled".to_owned());
        }
        account.disabled = false;
    }
    Ok(())
}

async fn record(
    run: &StepContext,
    target: &MemberTarget,
    account: &FilesAccount,
) -> Result<(), StepFailure> {
    let (members, id, now) = (&run.ctx.members, target.member.id, run.ctx.store.now());
    run.fenced_transaction((members, account), |session, (members, account)| {
        members.set_files_account(session, id, account, now).boxed()
    })
    .await
}

/// A user found after a create was begun whose outcome is not recorded was created by it.
fn account_of(target: &MemberTarget, user: &FilesUser, is_new: bool) -> FilesAccount {
    let member = &target.member;
    let known = member.ocis.as_ref();
    if let Some(known) = known.filter(|known| known.user_id == user.id) {
        return known.clone();
    }
    let origin = if is_new || member.ocis_create_begun {
        AccountOrigin::Created
    } else {
        AccountOrigin::Adopted
    };
    FilesAccount {
        user_id: user.id.clone(),
        origin,
        disabled: false,
    }
}

/// Makes the user an editor of the tenant's space. The members of a suspended tenant's space cannot be changed: the
/// reconcile that resumes the tenant does it.
async fn join_space(
    client: &Ocis,
    target: &MemberTarget,
    user_id: &str,
    changes: &mut Vec<String>,
) -> Result<(), StepFailure> {
    let is_suspended = target.tenant_desired_state != DesiredState::Active;
    let space = target.tenant.ocis_space_id.as_deref();
    let members = match space {
        Some(space) => client.list_space_members(space).await?,
        None => None,
    };
    match (space, members) {
        (Some(space), Some(members)) => {
            let joined = client.ensure_editor(space, &members, user_id, Mode::Apply);
            changes.extend(joined.await?);
            Ok(())
        }
        _ if is_suspended => Ok(()),
        _ => Err(not_ready("the tenant's space is not provisioned yet")),
    }
}

/// Takes the user out of the tenant's space: the one of the login, and the recorded one, which may have been renamed. False
/// while the space is disabled, whose members cannot be changed.
async fn leave_space(
    client: &Ocis,
    target: &MemberTarget,
    user: Option<&FilesUser>,
    changes: &mut Vec<String>,
) -> Result<bool, StepFailure> {
    let recorded = target.member.ocis.as_ref();
    let ids = user.map(|user| user.id.as_str()).into_iter();
    let ids = ids.chain(recorded.map(|recorded| recorded.user_id.as_str()));
    let ids: BTreeSet<&str> = ids.collect();
    let space = target.tenant.ocis_space_id.as_ref();
    let Some(space) = space.filter(|_| !ids.is_empty()) else {
        return Ok(true);
    };
    let Some(members) = client.list_space_members(space).await? else {
        return Ok(false);
    };
    for id in ids {
        let left = client.remove_space_member(space, &members, id, Mode::Apply);
        changes.extend(left.await?);
    }
    Ok(true)
}

async fn remove(
    run: &StepContext,
    client: &Ocis,
    target: &MemberTarget,
) -> Result<StepSuccess, StepFailure> {
    let mut changes = Vec::new();
    let user = find(client, target).await?;
    // Before the user is deleted, which leaves the grant.
    let has_left = leave_space(client, target, user.as_ref(), &mut changes).await?;
    if let Some(user) = &user
        && owns(run, target, user).await?
    {
        begin_purge(run, target).await?;
        if client.delete_files_user(&user.id).await? {
            changes.push("user deleted".to_owned());
        }
        return Ok(StepSuccess::ok(tenant_reason::REMOVED, changes));
    }
    if !has_left && target.tenant_desired_state != DesiredState::Gone {
        // It would be a member again once the tenant is resumed.
        return Err(not_ready(
            "the space is disabled while the tenant is suspended, so the member cannot be removed from it",
        ));
    }
    let refs = release(client, target, user.as_ref(), &mut changes).await?;
    Ok(StepSuccess::ok(tenant_reason::REMOVED, changes).with_refs(refs))
}

/// The member's user, by the login. One that was created again under it has another id.
async fn find(client: &Ocis, target: &MemberTarget) -> Result<Option<FilesUser>, StepFailure> {
    Ok(client.find_files_user(&target.member.email).await?)
}
