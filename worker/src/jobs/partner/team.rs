//! Team synchronisation: the partner's group, and the MFA device count of each member.

use dezky_shared::{id::UserId, tenant::reason as tenant_reason, user::MfaCheck};
use dezky_upstreams::clients::authentik::Authentik;
use futures::FutureExt as _;

use super::{
    group::{self, GroupSync},
    partner_of, reason,
};
use crate::{
    jobs::partial_failure::PartialFailures,
    steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs},
};

/// Synchronises the group with the current team and stores the members' device counts.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(partner) = partner_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::PARTNER_GONE));
    };
    let client = client.with_deadline(&run.trust);
    let GroupSync {
        changes,
        team,
        mut failures,
    } = group::sync(&run, &client, &partner).await?;
    count_devices(&run, &client, &team, &mut failures).await?;
    failures.finish()?;
    Ok(StepSuccess::ok(
        reason::SYNCED,
        changes,
        UpstreamRefs::default(),
    ))
}

/// Stores the device counts of all members in one transaction.
async fn count_devices(
    run: &StepContext,
    client: &Authentik,
    team: &[(UserId, i64)],
    failures: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let mut checks = Vec::new();
    for (user, account) in team {
        let counted = client.count_mfa_devices(*account).await;
        let Some(devices) = failures.capture(counted)? else {
            continue;
        };
        let check = MfaCheck {
            devices: i32::try_from(devices).unwrap_or(i32::MAX),
            looked_up_at: run.ctx.store.now(),
        };
        checks.push((*user, check));
    }
    run.fenced_transaction((run, checks), |session, (run, checks)| {
        async move {
            for (user, check) in checks {
                run.ctx.users.set_mfa(session, *user, check).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}
