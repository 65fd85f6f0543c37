//! The group of those who work for the partner, and how many MFA devices each of them has.

use dezky_shared::{
    clients::authentik::Authentik, id::UserId, tenant::reason as tenant_reason, user::MfaLook,
};
use futures::FutureExt as _;

use super::{
    group::{self, Followed},
    partner_of, reason,
};
use crate::{
    jobs::setbacks::Setbacks,
    work::{Facts, StepDone, StepFailure, StepRun},
};

/// Brings the group to who works for the partner now, and counts their devices.
pub(super) async fn converge(run: StepRun) -> Result<StepDone, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepDone::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(partner) = partner_of(&run).await? else {
        return Ok(StepDone::skipped(reason::PARTNER_GONE));
    };
    let client = client.trusting(&run.trust);
    let Followed {
        changes,
        team,
        mut setbacks,
    } = group::follow(&run, &client, &partner).await?;
    count_devices(&run, &client, &team, &mut setbacks).await?;
    setbacks.end()?;
    Ok(StepDone::ok(reason::FOLLOWED, changes, Facts::default()))
}

/// Writes down how many devices each of the team has, all together.
async fn count_devices(
    run: &StepRun,
    client: &Authentik,
    team: &[(UserId, i64)],
    setbacks: &mut Setbacks,
) -> Result<(), StepFailure> {
    let mut looks = Vec::new();
    for (user, account) in team {
        let counted = client.count_mfa_devices(*account).await;
        let Some(devices) = setbacks.note(counted)? else {
            continue;
        };
        let look = MfaLook {
            devices: i32::try_from(devices).unwrap_or(i32::MAX),
            looked_up_at: run.ctx.store.now(),
        };
        looks.push((*user, look));
    }
    run.write((run, looks), |session, (run, looks)| {
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
