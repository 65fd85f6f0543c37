//! Identity of the tenant's space.
//!
//! The stored id is the identity. Without one, a space is the tenant's only if an earlier create of unknown outcome may
//! have made it: it carries the tenant's marker, our account created it, it has no other member, and no other tenant
//! stores it. Everything else with the marker is a conflict, and is not touched: any member of a space may set its marker.

use dezky_upstreams::clients::ocis::Space;

use super::{SpaceStep, conflict};
use crate::steps::StepFailure;

/// Location of the tenant's space, as far as it is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Located {
    /// It does not exist: none was requested, or it was removed.
    Absent,
    /// It has the stored id.
    Stored(Space),
    /// Left by earlier creates whose outcome was unknown; none if they did not happen.
    Unrecorded(Vec<Space>),
}

impl Located {
    pub(super) fn spaces(&self) -> &[Space] {
        match self {
            Self::Absent => &[],
            Self::Stored(space) => std::slice::from_ref(space),
            Self::Unrecorded(spaces) => spaces,
        }
    }
}

impl SpaceStep<'_> {
    /// Locates the tenant's space. All spaces are listed only if a create may have happened whose id is not stored: oCIS
    /// finds no space by its marker.
    pub(super) async fn locate(&self) -> Result<Located, StepFailure> {
        let Some(stored) = &self.tenant.ocis_space_id else {
            if self.tenant.ocis_space_absent || self.is_fresh {
                return Ok(Located::Absent);
            }
            return Ok(Located::Unrecorded(self.find_unrecorded().await?));
        };
        self.require_exclusive(std::slice::from_ref(stored)).await?;
        let mode = self.run.mode;
        match self.client.find_space(stored, self.quota, mode).await? {
            Some(space) => Ok(Located::Stored(space)),
            // It was purged, and may have been replaced by an attempt that did not record it.
            None => Ok(Located::Unrecorded(self.find_unrecorded().await?)),
        }
    }

    pub(super) async fn find_unrecorded(&self) -> Result<Vec<Space>, StepFailure> {
        let spaces = self.client.find_unrecorded_spaces(&self.tenant_id).await?;
        let ids: Vec<String> = spaces.iter().map(|space| space.id.clone()).collect();
        self.require_exclusive(&ids).await?;
        Ok(spaces)
    }

    /// Fails if another tenant stores one of these spaces.
    async fn require_exclusive(&self, spaces: &[String]) -> Result<(), StepFailure> {
        let holders = self.run.ctx.tenants.list_space_holders(spaces).await?;
        let other = holders.iter().find(|holder| holder.id != self.tenant.id);
        let Some(other) = other else { return Ok(()) };
        Err(conflict(format!(
            "{} is stored for tenant {}, and not touched; candidates for this tenant: {}",
            other.ocis_space_id.as_deref().unwrap_or_default(),
            other.id,
            spaces.join(", ")
        )))
    }
}
