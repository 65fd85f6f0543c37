//! Tenant in oCIS: the project space.

use dezky_shared::tenant::{DesiredState, reason};
use dezky_upstreams::clients::ocis::space_name;

use super::{converged_reason, tenant_of};
use crate::steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs};

/// Converges the space to the desired state: enabled, disabled with its content, or purged.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let client = client.with_deadline(&run.trust);
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
    let refs = UpstreamRefs {
        ocis_space_id: Some(space),
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(converged_reason(intent), changes, refs))
}
