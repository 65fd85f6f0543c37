//! The audit trail: insert only.

use std::sync::Arc;

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel};

use super::{Store, StoreError};
use crate::{audit::AuditEvent, id::TenantId};

/// The events of all tenants and of the platform.
#[derive(Debug, Clone)]
pub struct AuditRepository {
    events: Collection<AuditEvent>,
}

impl AuditRepository {
    /// The trail in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            events: store.collection("audit_events"),
        }
    }

    /// Makes the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let by_tenant = IndexModel::builder()
            .keys(doc! { "tenantId": 1, "at": -1 })
            .build();
        let unsealed = IndexModel::builder()
            .keys(doc! { "sealed": 1, "tenantId": 1, "_id": 1 })
            .build();
        self.events.create_indexes([by_tenant, unsealed]).await?;
        Ok(())
    }

    /// Adds an event, in the transaction of what it records.
    pub async fn record(
        &self,
        session: &mut ClientSession,
        event: &AuditEvent,
    ) -> Result<(), StoreError> {
        self.events.insert_one(event).session(session).await?;
        Ok(())
    }

    /// The last `limit` events of this tenant, latest first.
    pub async fn latest(
        &self,
        tenant_id: TenantId,
        limit: i64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        self.events
            .find(doc! { "tenantId": tenant_id })
            .sort(doc! { "at": -1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }
}
