//! Spaces of tenants on the file server.

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;
use serde::Deserialize;

use super::TenantRepository;
use crate::{
    id::TenantId,
    store::{StoreError, VersionedRepository as _},
    tenant::TenantStatus,
};

/// Tenant with the space that is stored for it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SpaceHolder {
    /// Tenant.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Status of the tenant.
    pub status: TenantStatus,
    /// Stored space.
    #[serde(default)]
    pub ocis_space_id: Option<String>,
    /// Whether the tenant certainly has no space.
    #[serde(default)]
    pub ocis_space_absent: bool,
}

impl TenantRepository {
    /// Tenants for which one of `spaces` (ids on the file server) is stored.
    pub async fn list_space_holders(
        &self,
        spaces: &[String],
    ) -> Result<Vec<SpaceHolder>, StoreError> {
        if spaces.is_empty() {
            return Ok(Vec::new());
        }
        self.find_space_holders(doc! { "ocisSpaceId": { "$in": spaces } })
            .await
    }

    /// The stored spaces of these tenants.
    pub async fn list_spaces_of(&self, ids: &[TenantId]) -> Result<Vec<SpaceHolder>, StoreError> {
        self.find_space_holders(doc! { "_id": { "$in": ids.to_vec() } })
            .await
    }

    async fn find_space_holders(&self, filter: Document) -> Result<Vec<SpaceHolder>, StoreError> {
        self.tenants
            .clone_with_type()
            .find(filter)
            .projection(doc! { "status": 1, "ocisSpaceId": 1, "ocisSpaceAbsent": 1 })
            .await?
            .try_collect()
            .await
    }

    /// Records the space of this tenant.
    pub async fn set_ocis_space(
        &self,
        session: &mut ClientSession,
        id: TenantId,
        space: &str,
    ) -> Result<(), StoreError> {
        let stored = doc! { "$set": { "ocisSpaceId": space } };
        self.update_fields(session, id, stored).await
    }

    /// Records that a create of a space is about to be sent for this tenant, by a job for which it is not fresh.
    pub async fn set_ocis_space_requested(
        &self,
        session: &mut ClientSession,
        id: TenantId,
    ) -> Result<(), StoreError> {
        let requested = doc! { "$unset": { "ocisSpaceAbsent": "", "freshFor.ocis": "" } };
        self.update_fields(session, id, requested).await
    }

    /// Records that an attempt may have called any upstream for this tenant.
    pub async fn end_freshness(
        &self,
        session: &mut ClientSession,
        id: TenantId,
    ) -> Result<(), StoreError> {
        let called = doc! { "$unset": { "freshFor": "" } };
        self.update_fields(session, id, called).await
    }
}
