//! A tenant in oCIS: its project space.

use dezky_shared::{
    clients::ocis::space_name,
    tenant::{Intent, reason},
};

use super::{settled, tenant_of};
use crate::work::{Facts, StepDone, StepFailure, StepRun};

/// Brings the tenant's space to the intent: there, disabled with everything in it, or gone.
pub(super) async fn converge(run: StepRun) -> Result<StepDone, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepDone::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.trusting(&run.trust);
    let id = tenant.id.to_string();
    let stored = tenant.ocis_space_id.as_deref();
    let (space, changes) = match intent {
        Intent::Active => {
            let name = space_name(&tenant.name, &tenant.slug);
            let quota = Some(tenant.plan.space_quota());
            let ensured = client
                .ensure_space(&id, &name, stored, quota, run.mode)
                .await?;
            (ensured.value.map(|space| space.id), ensured.changes)
        }
        Intent::Suspended => {
            let ensured = client.disable_space(&id, stored, run.mode).await?;
            (
                ensured.value.flatten().map(|space| space.id),
                ensured.changes,
            )
        }
        Intent::Gone => (
            None,
            client.purge_space(&id, stored, run.mode).await?.changes,
        ),
    };
    let facts = Facts {
        ocis_space_id: Some(space),
        ..Facts::default()
    };
    Ok(StepDone::ok(settled(intent), changes, facts))
}
