//! The group of those who work for the partner, and how many MFA devices each of them has.

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

/// Brings the group to who works for the partner now, and counts their devices.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepSuccess::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(partner) = partner_of(&run).await? else {
        return Ok(StepSuccess::skipped(reason::PARTNER_GONE));
    };
    let client = client.trusting(&run.trust);
    let GroupSync {
        changes,
        team,
        mut setbacks,
    } = group::sync(&run, &client, &partner).await?;
    count_devices(&run, &client, &team, &mut setbacks).await?;
    setbacks.finish()?;
    Ok(StepSuccess::ok(
        reason::FOLLOWED,
        changes,
        UpstreamRefs::default(),
    ))
}

/// Writes down how many devices each of the team has, all together.
async fn count_devices(
    run: &StepContext,
    client: &Authentik,
    team: &[(UserId, i64)],
    setbacks: &mut PartialFailures,
) -> Result<(), StepFailure> {
    let mut looks = Vec::new();
    for (user, account) in team {
        let counted = client.count_mfa_devices(*account).await;
        let Some(devices) = setbacks.capture(counted)? else {
            continue;
        };
        let look = MfaCheck {
            devices: i32::try_from(devices).unwrap_or(i32::MAX),
            looked_up_at: run.ctx.store.now(),
        };
        looks.push((*user, look));
    }
    run.fenced_transaction((run, looks), |session, (run, looks)| {
        async move {
            for (user, look) in looks {
                run.ctx.users.set_mfa(session, *user, look).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await
}
