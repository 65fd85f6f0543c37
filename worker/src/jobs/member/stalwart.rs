//! Member on the mail server: the mailbox with its aliases, quota and password, and its suspension.

use dezky_shared::{
    allowance::Allowance,
    member::{MailAddress, Mailbox, Member, MemberStatus},
    queue::error_code::ErrorCode,
    tenant::{DesiredState, Tenant, reason as tenant_reason},
};
use dezky_upstreams::clients::{
    Mode,
    stalwart::{Account, Alias, DesiredMailbox, EnsuredMailbox, MailFreeze, Stalwart},
};

use super::{
    MemberTarget, begin_purge, converged_reason, issued_password, lists, not_ready, reason,
    status::MemberRefs, target_of,
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Converges the mailbox to the desired state.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let target = target_of(&run)?;
    let Some(client) = &run.ctx.clients.stalwart else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let member = &target.member;
    let Some(mailbox) = member
        .mailbox
        .as_ref()
        .filter(|_| member.status != MemberStatus::Removed)
    else {
        let is_gone = target.desired_state == DesiredState::Gone;
        let removed = is_gone.then_some(tenant_reason::REMOVED);
        return Ok(StepSuccess::skipped(removed.unwrap_or(reason::NO_MAILBOX)));
    };
    let client = client.with_deadline(&run.deadline);
    match target.desired_state {
        DesiredState::Active => provision(&run, &client, target, mailbox).await,
        DesiredState::Suspended => suspend(&run, &client, target, mailbox).await,
        DesiredState::Gone => remove(&run, &client, target, mailbox).await,
    }
}

/// The member's mailbox, if it exists.
pub(super) async fn find(
    client: &Stalwart,
    target: &MemberTarget,
    mailbox: &Mailbox,
) -> Result<Option<Account>, StepFailure> {
    // Without the domain, there is no mailbox in it.
    let Some(domain_id) = target.tenant.mail_domain_id(mailbox.primary.domain()) else {
        return Ok(None);
    };
    let (name, known) = (&mailbox.primary.local_part, &mailbox.stalwart_account_id);
    let found = client.find_mailbox(domain_id, name, known.as_deref());
    Ok(found.await?)
}

async fn provision(
    run: &StepContext,
    client: &Stalwart,
    target: &MemberTarget,
    mailbox: &Mailbox,
) -> Result<StepSuccess, StepFailure> {
    let issued = issued_password(run, &target.member, mailbox.password_issued_at)?;
    let allowance = run.ctx.allowances.of_plan(target.tenant.plan).await?;
    let desired = desired(&target.tenant, &target.member, mailbox, &allowance);
    let desired = desired.ok_or_else(|| not_ready("a mail domain is not provisioned"))?;
    let freezes = freezes(target);
    let password = issued.as_ref().map(|issued| &issued.password);
    let EnsuredMailbox {
        account,
        is_new,
        mut changes,
    } = client.ensure_mailbox(&desired, password, &freezes).await?;
    set_freezes(client, &account, &freezes, &mut changes).await?;
    note_lists(run, client, target, mailbox).await?;
    if let Some(password) = password.filter(|_| !is_new) {
        client.set_mailbox_password(&account, password).await?;
        changes.push("mailbox password set".to_owned());
    }
    let reason = if account.has_password() || issued.is_some() {
        converged_reason(target)
    } else {
        reason::PASSWORD_MISSING
    };
    Ok(StepSuccess::ok(reason, changes).with_refs(MemberRefs {
        mailbox_id: Some(account.id),
        mailbox_password: issued.map(|issued| issued.issued_at),
        ..MemberRefs::default()
    }))
}

/// Suspends the mailbox. One that has not the password that the job carries is provisioned first, suspended: the password
/// was shown once, and is in force when the member is resumed.
async fn suspend(
    run: &StepContext,
    client: &Stalwart,
    target: &MemberTarget,
    mailbox: &Mailbox,
) -> Result<StepSuccess, StepFailure> {
    if issued_password(run, &target.member, mailbox.password_issued_at)?.is_some() {
        return provision(run, client, target, mailbox).await;
    }
    let Some(account) = find(client, target, mailbox).await? else {
        return Ok(StepSuccess::skipped(tenant_reason::SUSPENDED));
    };
    let mut changes = Vec::new();
    set_freezes(client, &account, &freezes(target), &mut changes).await?;
    note_lists(run, client, target, mailbox).await?;
    let done = StepSuccess::ok(tenant_reason::SUSPENDED, changes);
    Ok(done.with_refs(MemberRefs {
        mailbox_id: Some(account.id),
        ..MemberRefs::default()
    }))
}

/// Records the lists that keep the mailbox of a member who is being removed.
async fn note_lists(
    run: &StepContext,
    client: &Stalwart,
    target: &MemberTarget,
    mailbox: &Mailbox,
) -> Result<(), StepFailure> {
    if target.member.status == MemberStatus::Removing {
        lists::check(run, client, target, mailbox).await?;
        return Ok(());
    }
    lists::clear(run, target).await
}

/// Destroys the mailbox, unless a list names it: see [`lists`]. A tenant that is removed takes its lists with it.
async fn remove(
    run: &StepContext,
    client: &Stalwart,
    target: &MemberTarget,
    mailbox: &Mailbox,
) -> Result<StepSuccess, StepFailure> {
    let Some(account) = find(client, target, mailbox).await? else {
        return Ok(StepSuccess::skipped(tenant_reason::REMOVED));
    };
    if target.tenant_desired_state != DesiredState::Gone
        && let Some(lists) = lists::check(run, client, target, mailbox).await?
    {
        return Err(StepFailure::new(ErrorCode::MailboxInUse, lists));
    }
    begin_purge(run, target).await?;
    let mut changes = Vec::new();
    if client.destroy_mailbox(&account).await? {
        changes.push(format!("mailbox {} destroyed", account.email));
    }
    Ok(StepSuccess::ok(tenant_reason::REMOVED, changes))
}

/// The suspensions that freeze the mailbox.
fn freezes(target: &MemberTarget) -> Vec<MailFreeze> {
    let both = [
        (MailFreeze::Tenant, target.tenant_desired_state),
        (MailFreeze::Member, target.desired_state),
    ];
    let frozen = both
        .into_iter()
        .filter(|(_, desired_state)| *desired_state != DesiredState::Active);
    frozen.map(|(freeze, _)| freeze).collect()
}

async fn set_freezes(
    client: &Stalwart,
    account: &Account,
    freezes: &[MailFreeze],
    changes: &mut Vec<String>,
) -> Result<(), StepFailure> {
    let result = client.set_freezes(account, freezes, Mode::Apply).await?;
    changes.extend(result.changes);
    result
        .failures
        .into_iter()
        .next()
        .map_or(Ok(()), |failure| Err(failure.into()))
}

/// The mailbox that the member should have, with the quota of the plan's `allowance` unless it has one of its own. `None`
/// while one of its domains is not provisioned.
pub(in crate::jobs) fn desired<'a>(
    tenant: &'a Tenant,
    member: &'a Member,
    mailbox: &'a Mailbox,
    allowance: &Allowance,
) -> Option<DesiredMailbox<'a>> {
    let alias = |alias: &MailAddress| {
        Some(Alias {
            name: alias.local_part.clone(),
            domain_id: tenant.mail_domain_id(alias.domain())?.to_owned(),
        })
    };
    Some(DesiredMailbox {
        name: &mailbox.primary.local_part,
        domain_id: tenant.mail_domain_id(mailbox.primary.domain())?,
        known_id: mailbox.stalwart_account_id.as_deref(),
        display_name: &member.name,
        aliases: mailbox.aliases.iter().map(alias).collect::<Option<_>>()?,
        quota: mailbox
            .quota_bytes
            .and_then(|bytes| u64::try_from(bytes).ok())
            .unwrap_or_else(|| allowance.mailbox_quota()),
    })
}
