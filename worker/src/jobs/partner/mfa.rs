//! How many MFA devices each of a partner's team has.

use dezky_shared::{tenant::reason as tenant_reason, user::MfaLook};
use futures::FutureExt as _;

use super::{partner_of, reason, team_of};
use crate::work::{Facts, StepDone, StepFailure, StepRun};

/// Counts the devices of everybody on the team, and writes them down together.
pub(super) async fn look(run: StepRun) -> Result<StepDone, StepFailure> {
    let Some(client) = &run.ctx.clients.authentik else {
        return Ok(StepDone::skipped(tenant_reason::INTEGRATION_DISABLED));
    };
    let Some(partner) = partner_of(&run).await? else {
        return Ok(StepDone::skipped(reason::PARTNER_GONE));
    };
    let client = client.trusting(&run.trust);
    let mut looks = Vec::new();
    for user in team_of(&run, &partner).await? {
        // Who has no account there has no devices.
        let devices = match client.find_subject(&user.authentik_subject_id).await? {
            Some(account) => client.count_mfa_devices(account.pk).await?,
            None => 0,
        };
        let look = MfaLook {
            devices: i32::try_from(devices).unwrap_or(i32::MAX),
            looked_up_at: run.ctx.store.now(),
        };
        looks.push((user.id, look));
    }
    run.write((&run, looks), |session, (run, looks)| {
        async move {
            for (user, look) in looks {
                run.ctx.users.set_mfa(session, *user, look).await?;
            }
            Ok(())
        }
        .boxed()
    })
    .await?;
    Ok(StepDone::ok(reason::COUNTED, Vec::new(), Facts::default()))
}
