//! End of a member's sessions at the identity provider, on request.

use dezky_shared::{member::SignOut, tenant::reason as tenant_reason};

use super::{authentik, ownership, reason, status::MemberRefs, target_of};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Ends all sessions of the member's account and revokes all tokens and app passwords, if the tenant owns the account, else
/// the tokens for the tenant's apps. Mail clients that are signed in stay so until they disconnect.
pub(super) async fn end_sessions(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let target = target_of(&run)?;
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.deadline);
    let Some(user) = authentik::find(&client, target).await? else {
        return Ok(StepSuccess::skipped(reason::NO_ACCOUNT));
    };
    let is_ours = ownership::owns(&run, target, &user).await?;
    let ended = if is_ours {
        client.end_access(&user).await?
    } else {
        authentik::end_app_tokens(&run, &client, target, &user).await?
    };
    let done = StepSuccess::ok(reason::SIGNED_OUT, ended.change().into_iter().collect());
    let known = target.member.signed_out.as_ref();
    let is_recorded = known.is_some_and(|known| known.at >= run.job.created_at);
    if ended.change().is_none() && is_recorded {
        // A repeated attempt, which would report that nothing was ended.
        return Ok(done);
    }
    let count = |ended: usize| i32::try_from(ended).unwrap_or(i32::MAX);
    Ok(done.with_refs(MemberRefs {
        signed_out: Some(SignOut {
            at: run.ctx.store.now(),
            sessions: count(ended.sessions),
            tokens: count(ended.tokens),
            apps_only: !is_ours,
        }),
        ..MemberRefs::default()
    }))
}
