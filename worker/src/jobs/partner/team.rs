//! Team synchronisation: the partner's group, and the MFA devices of each member.

use dezky_shared::{
    id::UserId, tenant::reason as tenant_reason, upstream::PARTNER_TEAM, user::User,
};
use dezky_upstreams::clients::authentik::Authentik;
use futures::{FutureExt as _, StreamExt as _, stream};

use super::{group, partner_of, reason};
use crate::{
    jobs::{item_work::ItemWork, mfa},
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Members whose checks are stored in one transaction.
const BATCH: usize = 32;
/// Members looked up at a time.
const CONCURRENCY: usize = 8;

/// Synchronises the group with the current team and stores the members' MFA checks.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(partner) = partner_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::PARTNER_GONE));
    };
    let client = client.with_deadline(&run.deadline);
    let mut work = ItemWork::resume(&run, PARTNER_TEAM);
    let team = group::sync(&run, &client, &partner, &mut work).await?;
    if !work.is_unfinished() {
        check_devices(&run, &client, team, &mut work).await?;
    }
    work.finish(reason::SYNCED)
}

/// Stores the MFA checks of those members whose devices were not looked up since the job was requested, as far as there is
/// time.
async fn check_devices(
    run: &StepContext,
    client: &Authentik,
    team: Vec<(User, i64)>,
    work: &mut ItemWork<'_>,
) -> Result<(), StepFailure> {
    let total = team.len();
    let is_due = |user: &User| {
        let check = user.mfa.as_ref();
        check.is_none_or(|check| check.looked_up_at < run.job.created_at)
    };
    let due = team.into_iter().filter(|(user, _)| is_due(user));
    let due: Vec<(UserId, i64)> = due.map(|(user, account)| (user.id, account)).collect();
    if due.is_empty() {
        return Ok(());
    }
    let all_visible = client.sees_all_second_factors().await?;
    work.begin("members looked up", total - due.len(), total);
    for batch in due.chunks(BATCH) {
        if !work.has_time() {
            work.leave_rest();
            break;
        }
        let results: Vec<_> = stream::iter(batch.to_vec())
            .map(async |(user, account)| {
                let now = run.ctx.store.now();
                let check = mfa::check_of(client, account, all_visible, now);
                (user, check.await)
            })
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        let mut checks = Vec::new();
        for (user, check) in results {
            checks.extend(work.capture(check)?.map(|check| (user, check)));
        }
        let checked = checks.len();
        run.fenced_transaction((run, checks), |session, (run, checks)| {
            run.ctx.users.set_mfa(session, checks).boxed()
        })
        .await?;
        work.advance(checked);
    }
    Ok(())
}
