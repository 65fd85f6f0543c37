//! The subscriptions.

use std::{collections::HashMap, sync::Arc};

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

use super::{Store, StoreError};
use crate::{id::TenantId, subscription::Subscription};

/// The name of the index that keeps a tenant from having two subscriptions in force.
pub const LIVE_INDEX: &str = "one_live_per_tenant";

/// The subscriptions of all tenants.
#[derive(Debug, Clone)]
pub struct SubscriptionRepository {
    subscriptions: Collection<Subscription>,
}

impl SubscriptionRepository {
    /// The subscriptions in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            subscriptions: store.collection("subscriptions"),
        }
    }

    /// Makes the indexes.
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
        self.subscriptions.create_indexes([one_live]).await?;
        Ok(())
    }

    /// Adds a subscription.
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        subscription: &Subscription,
    ) -> Result<(), StoreError> {
        self.subscriptions
            .insert_one(subscription)
            .session(session)
            .await?;
        Ok(())
    }

    /// The subscriptions of these tenants.
    pub async fn list_for(&self, tenants: &[TenantId]) -> Result<Vec<Subscription>, StoreError> {
        let theirs = doc! { "tenantId": { "$in": tenants.to_vec() } };
        self.subscriptions
            .find(theirs)
            .sort(doc! { "_id": 1 })
            .await?
            .try_collect()
            .await
    }

    /// Of these tenants, the subscription of each that has one in force.
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
