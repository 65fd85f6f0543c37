//! Personal space of a member on the file server, and its quota.
//!
//! It appears with the first sign-in there, so that the quota is set by the first job after a measurement has seen it.

use dezky_shared::{
    member::{AccountOrigin, FilesAccount},
    storage_report::PersonalSpace,
};
use dezky_upstreams::clients::ocis::{FilesUser, Ocis};

use super::{MemberTarget, ownership};
use crate::steps::{StepContext, StepFailure};

/// Sets the quota of the personal space to the plan's, once there is one. That of a person in several tenants follows none
/// of their plans. Returns the space of a user who was created for the member.
pub(super) async fn converge(
    run: &StepContext,
    client: &Ocis,
    target: &MemberTarget,
    (user, account): (&FilesUser, &FilesAccount),
    changes: &mut Vec<String>,
) -> Result<Option<PersonalSpace>, StepFailure> {
    let is_created = account.origin == AccountOrigin::Created;
    let Some(mut usage) = user.personal_space().filter(|_| is_created) else {
        return Ok(None);
    };
    let allowance = run.ctx.allowances.of_plan(target.tenant.plan).await?;
    if let Some(quota) = allowance.personal_quota()
        && !ownership::is_login_used_elsewhere(run, &target.member).await?
        && client.ensure_personal_quota(user, quota).await?
    {
        changes.push("quota of the personal space changed".to_owned());
        usage.total_bytes = i64::try_from(quota).unwrap_or(i64::MAX);
    }
    let as_of = run.ctx.store.now();
    Ok(Some(PersonalSpace { as_of, usage }))
}
