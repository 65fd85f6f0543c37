//! Tenant in oCIS: the project space.

mod identity;

use dezky_shared::{
    queue::error_code::ErrorCode,
    tenant::{DesiredState, Tenant, reason},
    upstream::Upstream,
};
use dezky_upstreams::clients::ocis::{Ocis, Space, SpaceMembers, space_name};
use futures::FutureExt as _;

use self::identity::Located;
use super::{
    applies, converged_reason,
    freshness::is_fresh,
    members::{self, Listed},
    status::TenantRefs,
    tenant_of,
};
use crate::{
    jobs::item_work::ItemWork,
    steps::{StepContext, StepFailure, StepSuccess},
};

/// Converges the space to the desired state: enabled, disabled with its content, or purged.
pub(super) async fn converge(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let (tenant, desired_state) = tenant_of(&run)?;
    let Some(client) = &run.ctx.clients.ocis else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let step = SpaceStep {
        run: &run,
        tenant,
        tenant_id: tenant.id.to_string(),
        is_fresh: is_fresh(&run, tenant, Upstream::Ocis),
        quota: run.ctx.allowances.of_plan(tenant.plan).await?.space_quota(),
        client: client.with_deadline(&run.deadline),
    };
    let located = step.locate().await?;
    let (space, changes) = match desired_state {
        DesiredState::Active => {
            let mut work = ItemWork::resume(&run, Upstream::Ocis.name());
            let (space, changes) = step.provision(located).await?;
            work.changes = changes;
            work.refs.ocis_space_id = Some(space.clone());
            step.repair_members(space.as_deref(), &mut work).await?;
            return work.finish(converged_reason(desired_state));
        }
        DesiredState::Gone => {
            members::remove_all(&run, tenant).await?;
            if located == Located::Absent {
                return Ok(StepSuccess::skipped(converged_reason(desired_state)));
            }
            step.purge(located.spaces()).await?
        }
        // No call is needed to know that there is nothing to do.
        DesiredState::Suspended if located == Located::Absent => {
            return Ok(StepSuccess::skipped(converged_reason(desired_state)));
        }
        DesiredState::Suspended => step.disable(located.spaces()).await?,
    };
    let refs = TenantRefs {
        ocis_space_id: Some(space),
        ..TenantRefs::default()
    };
    Ok(StepSuccess::ok(converged_reason(desired_state), changes).with_refs(refs))
}

/// Id of the tenant's space, and the changes that were made.
type Converged = (Option<String>, Vec<String>);

/// The step of one attempt.
struct SpaceStep<'a> {
    run: &'a StepContext,
    tenant: &'a Tenant,
    tenant_id: String,
    /// Whether no space was requested for the tenant before this attempt.
    is_fresh: bool,
    /// Quota of the plan's allowance in bytes; 0 is unlimited.
    quota: u64,
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
                self.quota,
                self.run.mode,
            )
            .await?;
        changes.extend(ensured);
        Ok((Some(space.id), changes))
    }

    /// Creates the space. That a create may have happened is written first, so that after a crash the next attempt looks
    /// for the space: for a fresh tenant, the claim of the job says it.
    async fn create(
        &self,
        located: &Located,
        changes: &mut Vec<String>,
    ) -> Result<Space, StepFailure> {
        if !self.is_fresh && self.is_noted_as_absent() {
            self.note_create().await?;
        }
        let created = self
            .client
            .create_space(&self.tenant_id, &self.name(), self.quota)
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

    /// Whether a later attempt could take from the tenant's document that there is no space.
    fn is_noted_as_absent(&self) -> bool {
        self.tenant.ocis_space_absent || self.tenant.fresh_for.ocis.is_some()
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

    /// Provisions members who should be in the space and are not, or the other way round.
    async fn repair_members(
        &self,
        space: Option<&str>,
        work: &mut ItemWork<'_>,
    ) -> Result<(), StepFailure> {
        let Some(space) = space else {
            return Ok(());
        };
        if !members::has_members(self.run, self.tenant).await? {
            return Ok(());
        }
        // None in a dry run of a disabled space.
        let Some(listed) = self.client.list_space_members(space).await? else {
            return Ok(());
        };
        self.exclude_members(space, &listed, work).await?;
        if !work.is_unfinished() {
            members::repair(self.run, self.tenant, &Listed::Space(listed), work).await?;
        }
        Ok(())
    }

    /// Takes members out of the space who were suspended while it was disabled: it has just been enabled, and their own
    /// jobs wait for this one.
    async fn exclude_members(
        &self,
        space: &str,
        listed: &SpaceMembers,
        work: &mut ItemWork<'_>,
    ) -> Result<(), StepFailure> {
        let members = &self.run.ctx.members;
        let mut excluded = members.list_excluded_from_space(self.tenant.id).await?;
        excluded.retain(|user_id| listed.contains(user_id));
        work.begin("members removed from the space", 0, excluded.len());
        let (client, mode) = (&self.client, self.run.mode);
        let removing = async |user_id: &String| {
            client
                .remove_space_member(space, listed, user_id, mode)
                .await
        };
        work.each(&excluded, removing).await
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
