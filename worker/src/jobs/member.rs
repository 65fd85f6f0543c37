//! Member convergence: one parallel step per upstream brings it to the desired state of the member's document, within that
//! of the tenant.
//!
//! The suspension of a member and that of the tenant are separate marks in every upstream. Each job sets both as the two
//! documents have them, so that one never lifts the other.

mod authentik;
mod lists;
mod ocis;
mod ownership;
mod password;
mod personal_space;
mod sign_out;
mod stalwart;
mod status;

use dezky_shared::{
    member::{Member, MemberSecrets, MemberStatus},
    queue::error_code::ErrorCode,
    tenant::{DesiredState, reason as tenant_reason},
    upstream::{MAILBOX_PASSWORD, MEMBER_PASSWORD, MEMBER_SIGN_OUT, Upstream},
};
use futures::FutureExt as _;
use secrecy::SecretString;

use self::status::{MemberSink, MemberTarget};
pub(super) use self::{
    authentik::reclaim_account,
    ownership::{
        Claimant, ensure_may_create as ensure_may_create_account, facts as account_facts,
        refused as refuse_account,
    },
    stalwart::desired as desired_mailbox,
};
use crate::steps::{StepContext, StepFailure, Steps};

/// Step results, stored as reasons.
pub(super) mod reason {
    /// The member has no mailbox.
    pub(in crate::jobs) const NO_MAILBOX: &str = "NoMailbox";
    /// The account exists, and no password was ever set.
    pub(in crate::jobs) const PASSWORD_MISSING: &str = "PasswordMissing";
    /// Another password was issued since, or the job carries none any more.
    pub(in crate::jobs) const PASSWORD_SUPERSEDED: &str = "PasswordSuperseded";
    /// The account's password belongs to the person.
    pub(in crate::jobs) const PASSWORD_NOT_OURS: &str = "PasswordNotOurs";
    /// The password is set.
    pub(in crate::jobs) const PASSWORD_SET: &str = "PasswordSet";
    /// The member has no account at the identity provider.
    pub(in crate::jobs) const NO_ACCOUNT: &str = "NoAccount";
    /// The sessions are ended.
    pub(in crate::jobs) const SIGNED_OUT: &str = "SignedOut";
}

/// Steps of the kinds that change a member.
pub(super) fn steps() -> Steps {
    Steps::parallel()
        .upstream(Upstream::Authentik, authentik::converge)
        .upstream(Upstream::Stalwart, stalwart::converge)
        .upstream(Upstream::Ocis, ocis::converge)
        .reporting_to(MemberSink)
}

/// Ends the member's sessions.
pub(super) fn sign_out() -> Steps {
    Steps::parallel()
        .partial(Upstream::Authentik, MEMBER_SIGN_OUT, sign_out::end_sessions)
        .reporting_to(MemberSink)
}

/// Sets the one-time password that the job carries.
pub(super) fn reset_password() -> Steps {
    Steps::parallel()
        .partial(Upstream::Authentik, MEMBER_PASSWORD, password::set_sign_in)
        .partial(Upstream::Stalwart, MAILBOX_PASSWORD, password::set_mailbox)
        .reporting_to(MemberSink)
}

/// The job's member with its tenant.
fn target_of(run: &StepContext) -> Result<&MemberTarget, StepFailure> {
    run.target()
        .ok_or_else(|| StepFailure::new(ErrorCode::Internal, "the job names no member"))
}

/// Condition reason once an upstream has reached the desired state.
fn converged_reason(target: &MemberTarget) -> &'static str {
    match (target.desired_state, target.tenant_desired_state) {
        (DesiredState::Gone, _) => tenant_reason::REMOVED,
        (DesiredState::Active, DesiredState::Active) => tenant_reason::PROVISIONED,
        _ => tenant_reason::SUSPENDED,
    }
}

/// Records that the purge of the member begins, after which a restore is rejected. Before the first deletion of each step:
/// a restore that committed since the member was loaded makes the step fail, and its next attempt restores the accounts.
async fn begin_purge(run: &StepContext, target: &MemberTarget) -> Result<(), StepFailure> {
    let member = &target.member;
    if member.status != MemberStatus::Removing || member.purge_started_at.is_some() {
        // Removed with its tenant.
        return Ok(());
    }
    let (members, id, now) = (&run.ctx.members, member.id, run.ctx.store.now());
    let begun = run.fenced_transaction(members, |session, members| {
        members.begin_purge(session, id, now).boxed()
    });
    if begun.await? {
        Ok(())
    } else {
        Err(not_ready("the member was restored meanwhile"))
    }
}

/// The failure of a step that needs something of the tenant which another job has not provisioned yet.
fn not_ready(detail: impl Into<String>) -> StepFailure {
    StepFailure::new(ErrorCode::UpstreamNotReady, detail)
}

/// The password that the job carries, unless another one was issued since or it is `in_force` already. `None` also for a job
/// without secrets: they are removed once it is final.
fn issued_password(
    run: &StepContext,
    member: &Member,
    in_force: Option<bson::DateTime>,
) -> Result<Option<IssuedPassword>, StepFailure> {
    if run.job.secrets.is_none() {
        return Ok(None);
    }
    let MemberSecrets {
        password,
        issued_at,
    } = run.secrets()?;
    let is_current = member.password_issued_at == Some(issued_at) && in_force != Some(issued_at);
    Ok(is_current.then(|| IssuedPassword {
        password: password.into(),
        issued_at,
    }))
}

/// A one-time password.
struct IssuedPassword {
    password: SecretString,
    issued_at: bson::DateTime,
}
