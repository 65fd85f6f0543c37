//! Subscription repository.

use std::{collections::HashMap, sync::Arc};

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::{Collection, IndexModel, options::IndexOptions};

use super::{
    Store, StoreError, drop_index, index::index, linearizable::find_one_linearizable, to_bson,
    versioned::versioned,
};
use crate::{
    billing::Plan,
    id::{SubscriptionId, TenantId},
    subscription::{Subscription, SubscriptionStatus},
};

/// Unique index: one live subscription per tenant.
pub const LIVE_INDEX: &str = "one_live_per_tenant";
/// Predecessor of [`LIVE_INDEX`], which did not count past-due subscriptions.
const FORMER_LIVE_INDEX: &str = "one_active_per_tenant";

/// Subscriptions of all tenants.
#[derive(Debug, Clone)]
pub struct SubscriptionRepository {
    subscriptions: Collection<Subscription>,
}

/// Filter of a subscription list.
#[derive(Debug, Clone, Default)]
pub struct SubscriptionFilter {
    /// Of one of these tenants; all if missing.
    pub visible: Option<Vec<TenantId>>,
    /// Of this tenant.
    pub tenant_id: Option<TenantId>,
    /// Filter by status.
    pub status: Option<SubscriptionStatus>,
    /// Of this plan.
    pub plan: Option<Plan>,
    /// Only items after this id (page cursor).
    pub after: Option<SubscriptionId>,
}

impl SubscriptionFilter {
    fn document(&self) -> Result<Document, StoreError> {
        let mut all = Vec::new();
        if let Some(ids) = &self.visible {
            all.push(doc! { "tenantId": { "$in": ids.clone() } });
        }
        if let Some(tenant) = self.tenant_id {
            all.push(doc! { "tenantId": tenant });
        }
        if let Some(status) = &self.status {
            all.push(doc! { "status": to_bson(status)? });
        }
        if let Some(plan) = &self.plan {
            all.push(doc! { "plan": to_bson(plan)? });
        }
        if let Some(after) = self.after {
            all.push(doc! { "_id": { "$gt": after } });
        }
        Ok(if all.is_empty() {
            Document::new()
        } else {
            doc! { "$and": all }
        })
    }
}

versioned!(SubscriptionRepository, subscriptions: Subscription, SubscriptionId);

impl SubscriptionRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            subscriptions: store.collection("subscriptions"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let one_live = IndexOptions::builder()
            .name(LIVE_INDEX.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "status": { "$in": ["active", "past_due"] } })
            .build();
        let one_live = IndexModel::builder()
            .keys(doc! { "tenantId": 1 })
            .options(one_live)
            .build();
        // One index for each filter of the list, which is sorted by id.
        let listed = ["tenantId", "status", "plan"].map(|field| index(doc! { field: 1, "_id": 1 }));
        self.subscriptions
            .create_indexes([one_live].into_iter().chain(listed))
            .await?;
        drop_index(&self.subscriptions, FORMER_LIVE_INDEX).await
    }

    /// The subscription with this id.
    pub async fn find(&self, id: SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        find_one_linearizable(&self.subscriptions, doc! { "_id": id }).await
    }

    /// At most `limit` subscriptions that match `filter`, oldest first.
    pub async fn list(
        &self,
        filter: &SubscriptionFilter,
        limit: i64,
    ) -> Result<Vec<Subscription>, StoreError> {
        self.subscriptions
            .find(filter.document()?)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// Subscriptions of these tenants.
    pub async fn list_for(&self, tenants: &[TenantId]) -> Result<Vec<Subscription>, StoreError> {
        let filter = doc! { "tenantId": { "$in": tenants.to_vec() } };
        self.subscriptions
            .find(filter)
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await
    }

    /// The live subscription of each of these tenants that has one.
    pub async fn list_live(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Subscription>, StoreError> {
        let live = doc! {
            "tenantId": { "$in": tenants.to_vec() },
            "status": { "$in": ["active", "past_due"] },
        };
        self.subscriptions
            .find(live)
            .await?
            .map_ok(|subscription| (subscription.tenant_id, subscription))
            .try_collect()
            .await
    }
}
