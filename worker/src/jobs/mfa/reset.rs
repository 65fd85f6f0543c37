//! Reset of a person's second factors: all devices that were enrolled before the request are deleted.
//!
//! A repeated attempt therefore keeps a device that the person enrolled since.

use std::time::Duration;

use dezky_shared::{
    account::{AccountAccess, AccountCreator},
    mfa::MfaCheck,
    platform::clock,
    queue::args::ResetMfa,
    tenant::{Tenant, reason as tenant_reason},
    user::User,
};
use dezky_upstreams::clients::authentik::{Authentik, User as Account};
use futures::FutureExt as _;

use super::check_of;
use crate::{
    jobs::{
        member::{Claimant, account_facts},
        tenant::tenant_of,
    },
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Tolerated difference between the clocks of Authentik and MongoDB.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(30);

/// Step results, stored as reasons.
mod reason {
    /// The devices are deleted.
    pub(super) const RESET: &str = "Reset";
    /// The person left the tenant, or was deleted.
    pub(super) const PERSON_GONE: &str = "PersonGone";
    /// The person has no account at the identity provider.
    pub(super) const NO_ACCOUNT: &str = "NoAccount";
    /// The account also gives access outside of the tenant.
    pub(super) const SHARED_ACCOUNT: &str = "SharedAccount";
}

/// Deletes the devices. The facts that the request was checked against are read and checked again.
pub(super) async fn delete_devices(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, _) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let args: ResetMfa = run.args()?;
    let user = run.ctx.users.find(args.user_id).await?;
    let Some(user) = user.filter(|user| user.role_in(tenant.id).is_some()) else {
        return Ok(StepSuccess::skipped(reason::PERSON_GONE));
    };
    let client = client.with_deadline(&run.deadline);
    let Some(account) = client.find_subject(&user.authentik_subject_id).await? else {
        return Ok(StepSuccess::skipped(reason::NO_ACCOUNT));
    };
    if !args.by_operator && is_shared(&run, tenant, &user, &account).await? {
        return Ok(StepSuccess::skipped(reason::SHARED_ACCOUNT));
    }
    let requested_at = clock::later(run.job.created_at, CLOCK_TOLERANCE);
    let deleted = client.delete_mfa_devices(&account, requested_at).await?;
    save_check(&run, &client, &user, &account).await?;
    let changes = deleted
        .iter()
        .map(|device| format!("{} device deleted", device.kind.name()));
    Ok(StepSuccess::ok(reason::RESET, changes.collect()))
}

/// Whether the second factors are not the tenant's to reset: of a member whose account the tenant does not own, and of
/// any other person who has a use of the account besides this tenant.
async fn is_shared(
    run: &StepContext,
    tenant: &Tenant,
    user: &User,
    account: &Account,
) -> Result<bool, StepFailure> {
    let membership = user.memberships.get(&tenant.id);
    let member = membership.and_then(|membership| membership.member_id);
    let claimant = Claimant {
        member,
        ..Claimant::tenant(tenant, &account.username)
    };
    let facts = account_facts(run, claimant, account).await?;
    Ok(match facts.access() {
        AccountAccess::Owned => false,
        AccountAccess::Usable if member.is_none() && facts.creator == AccountCreator::Unmarked => {
            facts.is_privileged || facts.is_elsewhere
        }
        AccountAccess::Usable | AccountAccess::Reclaimable | AccountAccess::Refused => true,
    })
}

/// Stores the remaining devices, which a status would otherwise show too late.
async fn save_check(
    run: &StepContext,
    client: &Authentik,
    user: &User,
    account: &Account,
) -> Result<(), StepFailure> {
    let all_visible = client.sees_all_second_factors().await?;
    let now = run.ctx.store.now();
    let check: MfaCheck = check_of(client, account.pk, all_visible, now).await?;
    let found = (&run.ctx.users, [(user.id, check)]);
    run.fenced_transaction(found, |session, (users, checks)| {
        users.set_mfa(session, checks).boxed()
    })
    .await
}
