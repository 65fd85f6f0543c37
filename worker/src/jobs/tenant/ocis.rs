//! A tenant in oCIS: its project space.

use dezky_shared::tenant::{DesiredState, reason};
use dezky_upstreams::clients::ocis::space_name;

use super::{settled, tenant_of};
use crate::steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs};

/// Brings the tenant's space to the intent: there, disabled with everything in it, or gone.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.trusting(&run.trust);
    let id = tenant.id.to_string();
    let stored = tenant.ocis_space_id.as_deref();
    let (space, changes) = match intent {
        DesiredState::Active => {
            let name = space_name(&tenant.name, &tenant.slug);
            let quota = Some(tenant.plan.space_quota());
            let ensured = client
                .ensure_space(&id, &name, stored, quota, run.mode)
                .await?;
            (ensured.value.map(|space| space.id), ensured.changes)
        }
        DesiredState::Suspended => {
            let ensured = client.disable_space(&id, stored, run.mode).await?;
            (
                ensured.value.flatten().map(|space| space.id),
                ensured.changes,
            )
        }
        DesiredState::Gone => (
            None,
            client.purge_space(&id, stored, run.mode).await?.changes,
        ),
    };
    let facts = UpstreamRefs {
        ocis_space_id: Some(space),
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(settled(intent), changes, facts))
}
