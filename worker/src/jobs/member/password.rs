//! Reset of a member's password: the one-time password that the job carries, at the identity provider and on the mailbox.
//!
//! A repeated attempt sets the same password again. A password that was issued earlier than the member's latest is not
//! set: the job's first attempt may have failed, and the person may have been told the later one.

use dezky_shared::tenant::{DesiredState, reason as tenant_reason};

use super::{
    IssuedPassword, MemberTarget, authentik, issued_password, ownership, reason, stalwart,
    status::MemberRefs, target_of,
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Sets the password of the account at the identity provider and ends its sessions, with its app passwords, if the tenant owns it.
pub(super) async fn set_sign_in(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let target = target_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let known = target.member.authentik.as_ref();
    let in_force = known.and_then(|account| account.password_issued_at);
    let issued = match password_to_set(&run, target, in_force)? {
        Ok(issued) => issued,
        Err(done) => return Ok(done),
    };
    let client = client.with_deadline(&run.deadline);
    let Some(user) = authentik::find(&client, target).await? else {
        return match target.desired_state {
            DesiredState::Gone => Ok(StepSuccess::skipped(reason::NO_ACCOUNT)),
            // Creates the account with the password, suspended if the member is.
            DesiredState::Active | DesiredState::Suspended => authentik::converge(run).await,
        };
    };
    if !ownership::owns(&run, target, &user).await? {
        return Ok(StepSuccess::skipped(reason::PASSWORD_NOT_OURS));
    }
    client.set_password(user.pk, &issued.password).await?;
    let mut changes = vec!["password set".to_owned()];
    changes.extend(client.end_access(&user).await?.change());
    let mut account = ownership::account_of(&target.member, &user);
    account.password_issued_at = Some(issued.issued_at);
    Ok(
        StepSuccess::ok(reason::PASSWORD_SET, changes).with_refs(MemberRefs {
            account: Some(account),
            ..MemberRefs::default()
        }),
    )
}

/// Sets the password of the mailbox, if the member has one.
pub(super) async fn set_mailbox(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let target = target_of(&run)?;
    let Some(client) = &run.ctx.clients.stalwart else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(mailbox) = &target.member.mailbox else {
        return Ok(StepSuccess::skipped(reason::NO_MAILBOX));
    };
    let issued = match password_to_set(&run, target, mailbox.password_issued_at)? {
        Ok(issued) => issued,
        Err(done) => return Ok(done),
    };
    let client = client.with_deadline(&run.deadline);
    let Some(account) = stalwart::find(&client, target, mailbox).await? else {
        return match target.desired_state {
            DesiredState::Gone => Ok(StepSuccess::skipped(reason::NO_ACCOUNT)),
            DesiredState::Active | DesiredState::Suspended => stalwart::converge(run).await,
        };
    };
    let password = &issued.password;
    client.set_mailbox_password(&account, password).await?;
    let changes = vec!["mailbox password set".to_owned()];
    Ok(
        StepSuccess::ok(reason::PASSWORD_SET, changes).with_refs(MemberRefs {
            mailbox_id: Some(account.id),
            mailbox_password: Some(issued.issued_at),
            ..MemberRefs::default()
        }),
    )
}

/// The password to set, or the result of a step without one: it is set already, another one was issued since, or a final
/// job was requeued, which has no secrets any more.
fn password_to_set(
    run: &StepContext,
    target: &MemberTarget,
    in_force: Option<bson::DateTime>,
) -> Result<Result<IssuedPassword, StepSuccess>, StepFailure> {
    let member = &target.member;
    if in_force.is_some() && in_force == member.password_issued_at {
        return Ok(Err(StepSuccess::ok(reason::PASSWORD_SET, Vec::new())));
    }
    let issued = issued_password(run, member, in_force)?;
    Ok(issued.ok_or_else(|| StepSuccess::skipped(reason::PASSWORD_SUPERSEDED)))
}
