//! Tenant in oCIS: the project space.

mod identity;

use dezky_shared::{
    queue::error_code::ErrorCode,
    tenant::{DesiredState, Tenant, reason},
};
use dezky_upstreams::clients::ocis::{Ocis, Space, space_name};
use futures::FutureExt as _;

use self::identity::Located;
use super::{applies, converged_reason, tenant_of};
use crate::steps::{StepContext, StepFailure, StepSuccess, UpstreamRefs};

/// Converges the space to the desired state: enabled, disabled with its content, or purged.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, intent) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let step = SpaceStep {
        run: &run,
        tenant,
        tenant_id: tenant.id.to_string(),
        client: client.with_deadline(&run.trust),
    };
    let located = step.locate().await?;
    let (space, changes) = match intent {
        DesiredState::Active => step.provision(located).await?,
        // No call is needed to know that there is nothing to do.
        _ if located == Located::Absent => {
            return Ok(StepSuccess::skipped(converged_reason(intent)));
        }
        DesiredState::Suspended => step.disable(located.spaces()).await?,
        DesiredState::Gone => step.purge(located.spaces()).await?,
    };
    let refs = UpstreamRefs {
        ocis_space_id: Some(space),
        ..UpstreamRefs::default()
    };
    Ok(StepSuccess::ok(converged_reason(intent), changes, refs))
}

/// Id of the tenant's space, and the changes that were made.
type Converged = (Option<String>, Vec<String>);

/// The step of one attempt.
struct SpaceStep<'a> {
    run: &'a StepContext,
    tenant: &'a Tenant,
    tenant_id: String,
    client: Ocis,
}

impl SpaceStep<'_> {
    async fn provision(&self, located: Located) -> Result<Converged, StepFailure> {
        let mut changes = Vec::new();
        let space = match located.spaces() {
            [space] => space.clone(),
            [] => {
                changes.push("space created".to_owned());
                if !applies(self.run.mode) {
                    // Would the create succeed?
                    self.client.require_full_view().await?;
                    return Ok((None, changes));
                }
                self.create(&located, &mut changes).await?
            }
            several => return Err(several_spaces(several)),
        };
        let ensured = self
            .client
            .ensure_space(
                &space,
                &self.tenant_id,
                &self.name(),
                self.quota(),
                self.run.mode,
            )
            .await?;
        changes.extend(ensured);
        Ok((Some(space.id), changes))
    }

    /// Creates the space. What the tenant's document says about creates is written first, so that after a crash the next
    /// attempt looks for the space.
    async fn create(
        &self,
        located: &Located,
        changes: &mut Vec<String>,
    ) -> Result<Space, StepFailure> {
        if *located == Located::Absent {
            self.note_create().await?;
        }
        let created = self
            .client
            .create_space(&self.tenant_id, &self.name(), self.quota())
            .await?;
        if *located == Located::Absent {
            return Ok(created);
        }

        // The create of unknown outcome may have landed meanwhile.
        let mut spaces = self.find_unrecorded().await?;
        spaces.retain(|space| space.id != created.id);
        match <[Space; 1]>::try_from(spaces) {
            Ok([earlier]) if self.client.withdraw_space(&created).await? => {
                changes.push("duplicate removed".to_owned());
                Ok(earlier)
            }
            _ => Ok(created),
        }
    }

    /// Records that a create is about to be sent.
    async fn note_create(&self) -> Result<(), StepFailure> {
        let (tenants, id) = (self.run.ctx.tenants.clone(), self.tenant.id);
        self.run
            .fenced_transaction((tenants, id), |session, (tenants, id)| {
                tenants.set_ocis_space_requested(session, *id).boxed()
            })
            .await
    }

    async fn disable(&self, spaces: &[Space]) -> Result<Converged, StepFailure> {
        let mut changes = Vec::new();
        for space in spaces {
            changes.extend(self.client.disable_space(space, self.run.mode).await?);
        }
        Ok((spaces.first().map(|space| space.id.clone()), changes))
    }

    async fn purge(&self, spaces: &[Space]) -> Result<Converged, StepFailure> {
        let mut changes = Vec::new();
        for space in spaces {
            changes.extend(self.client.purge_space(space, self.run.mode).await?);
        }
        Ok((None, changes))
    }

    fn name(&self) -> String {
        space_name(&self.tenant.name, &self.tenant.slug)
    }

    fn quota(&self) -> u64 {
        self.tenant.plan.space_quota()
    }
}

fn several_spaces(spaces: &[Space]) -> StepFailure {
    let ids: Vec<_> = spaces.iter().map(|space| space.id.as_str()).collect();
    conflict(format!(
        "several spaces may be the tenant's, and none is stored for it: {}; purge all but one",
        ids.join(", ")
    ))
}

fn conflict(detail: String) -> StepFailure {
    StepFailure::new(ErrorCode::UpstreamConflict, detail)
}
