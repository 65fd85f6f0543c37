//! Subscription repository.

use std::collections::HashMap;

use bson::{Bson, DateTime, Document, doc};
use futures::{Stream, TryStreamExt as _};
use mongodb::{ClientSession, IndexModel, options::IndexOptions};
use serde::Deserialize;

use super::{
    StoreError, drop_index,
    index::index,
    lenient::{decode, skip_undecodable},
    linearizable::find_one_linearizable,
    page::page,
    to_bson,
    versioned::versioned,
};
use crate::{
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
    subscription::{Subscription, SubscriptionStatus},
};

/// Unique index: one live subscription per tenant.
pub const LIVE_INDEX: &str = "one_live_per_tenant";
/// Predecessor of [`LIVE_INDEX`], which did not count past-due subscriptions.
const FORMER_LIVE_INDEX: &str = "one_active_per_tenant";

/// Documents of a batch of a stream.
const STREAM_BATCH: u32 = 1_000;

/// Matches live subscriptions, as the partial indexes do.
fn live() -> Document {
    doc! { "$in": ["active", "past_due"] }
}

/// Matches live subscriptions that Stripe bills, as the partial index does.
fn by_card() -> Document {
    doc! { "biller": "stripe", "status": live() }
}

/// Live subscription that Stripe bills, with only its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CardCandidate {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: SubscriptionId,
    /// Tenant.
    pub tenant_id: TenantId,
}

/// Live subscription with only the fields that the invoice run selects by.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RunCandidate {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: SubscriptionId,
    /// Tenant.
    pub tenant_id: TenantId,
    /// Billing cycle.
    pub cycle: Cycle,
    /// End of the last invoiced period, once enrolled.
    #[serde(default)]
    pub invoiced_through: Option<DateTime>,
    /// Instant from which the billing periods are counted, once enrolled.
    #[serde(default)]
    pub billing_anchor: Option<DateTime>,
}

versioned! {
    /// Subscriptions of all tenants.
    SubscriptionRepository, subscriptions = "subscriptions": Subscription, SubscriptionId
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
        Ok(if all.is_empty() {
            Document::new()
        } else {
            doc! { "$and": all }
        })
    }
}

impl SubscriptionRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let one_live = IndexOptions::builder()
            .name(LIVE_INDEX.to_owned())
            .unique(true)
            .partial_filter_expression(doc! { "status": live() })
            .build();
        let one_live = IndexModel::builder()
            .keys(doc! { "tenantId": 1 })
            .options(one_live)
            .build();
        let for_run = IndexOptions::builder()
            .partial_filter_expression(doc! { "status": live() })
            .build();
        let for_run = IndexModel::builder()
            .keys(doc! { "invoicedThrough": 1, "_id": 1 })
            .options(for_run)
            .build();
        let for_sweep = IndexOptions::builder()
            .partial_filter_expression(by_card())
            .build();
        let for_sweep = IndexModel::builder()
            .keys(doc! { "biller": 1, "_id": 1 })
            .options(for_sweep)
            .build();
        // One index for each filter of the list, which is sorted by id, and for both of those that many may match.
        let listed = ["tenantId", "status", "plan"].map(|field| index(doc! { field: 1, "_id": 1 }));
        let of_both = index(doc! { "status": 1, "plan": 1, "_id": 1 });
        let others = [one_live, for_run, for_sweep, of_both];
        self.subscriptions
            .create_indexes(others.into_iter().chain(listed))
            .await?;
        drop_index(&self.subscriptions, FORMER_LIVE_INDEX).await
    }

    /// The subscription with this id.
    pub async fn find(&self, id: SubscriptionId) -> Result<Option<Subscription>, StoreError> {
        find_one_linearizable(&self.subscriptions, doc! { "_id": id }).await
    }

    /// The subscription of a tenant that is this one at Stripe, as seen by this transaction.
    pub async fn find_of_stripe(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
        stripe_id: &str,
    ) -> Result<Option<Subscription>, StoreError> {
        let filter = doc! { "tenantId": tenant_id, "stripeSubscriptionId": stripe_id };
        self.subscriptions.find_one(filter).session(session).await
    }

    /// At most `limit` subscriptions that match `filter`, oldest first.
    pub async fn list(
        &self,
        filter: &SubscriptionFilter,
        limit: i64,
    ) -> Result<Vec<Subscription>, StoreError> {
        let after = filter.after;
        page(&self.subscriptions, filter.document()?, after, limit).await
    }

    /// Subscriptions of these tenants. Skips those of a newer build.
    pub async fn list_for(&self, tenants: &[TenantId]) -> Result<Vec<Subscription>, StoreError> {
        let filter = doc! { "tenantId": { "$in": tenants.to_vec() } };
        let subscriptions = self.subscriptions.clone_with_type();
        let found = subscriptions.find(filter).sort(doc! { "_id": 1 });
        skip_undecodable(found.await?).try_collect().await
    }

    /// The live subscription of each of these tenants that has one; `None` if only a newer build can read it.
    pub async fn list_live(
        &self,
        tenants: &[TenantId],
    ) -> Result<HashMap<TenantId, Option<Subscription>>, StoreError> {
        /// The tenant alone.
        #[derive(serde::Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Of {
            tenant_id: TenantId,
        }
        let live = doc! {
            "tenantId": { "$in": tenants.to_vec() },
            "status": live(),
        };
        let stored = self.subscriptions.clone_with_type::<Document>();
        let mut found = stored.find(live).await?;
        let mut subscriptions = HashMap::new();
        while let Some(stored) = found.try_next().await? {
            let Of { tenant_id } = bson::deserialize_from_document(stored.clone())?;
            subscriptions.insert(tenant_id, decode(stored));
        }
        Ok(subscriptions)
    }

    /// The live subscription of a tenant, as seen by this transaction.
    pub async fn find_live(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
    ) -> Result<Option<Subscription>, StoreError> {
        let filter = doc! { "tenantId": tenant_id, "status": live() };
        self.subscriptions.find_one(filter).session(session).await
    }

    /// Live subscriptions of the invoice run whose last invoiced period has ended at `until`, from those that ended at `from` on, ordered by
    /// that end.
    pub async fn list_due(
        &self,
        from: Option<DateTime>,
        until: DateTime,
    ) -> Result<impl Stream<Item = Result<RunCandidate, StoreError>> + Send + use<>, StoreError>
    {
        let mut through = doc! { "$lte": until };
        if let Some(from) = from {
            through.insert("$gte", from);
        }
        // Those that Stripe bills are invoiced there, so that theirs is in the future but for those that wait for a card.
        let by_run = doc! { "$ne": "stripe" };
        let due = doc! { "status": live(), "invoicedThrough": through, "biller": by_run };
        self.candidates(due, None).await
    }

    /// At most `limit` live subscriptions after `after` that Stripe bills, ordered by id.
    pub async fn list_by_card(
        &self,
        after: Option<SubscriptionId>,
        limit: i64,
    ) -> Result<Vec<CardCandidate>, StoreError> {
        let mut filter = by_card();
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        let subscriptions = self.subscriptions.clone_with_type::<CardCandidate>();
        let found = subscriptions
            .find(filter)
            .sort(doc! { "_id": 1 })
            .projection(doc! { "tenantId": 1 })
            .limit(limit);
        found.await?.try_collect().await
    }

    /// At most `limit` live subscriptions after `after` that are not enrolled, ordered by id.
    pub async fn list_not_enrolled(
        &self,
        after: Option<SubscriptionId>,
        limit: i64,
    ) -> Result<impl Stream<Item = Result<RunCandidate, StoreError>> + Send + use<>, StoreError>
    {
        let mut filter = doc! { "status": live(), "invoicedThrough": Bson::Null };
        if let Some(after) = after {
            filter.insert("_id", doc! { "$gt": after });
        }
        self.candidates(filter, Some(limit)).await
    }

    /// Subscriptions that match, in the order of the run's index, all of them without a limit. Skips those of
    /// a newer build.
    async fn candidates(
        &self,
        filter: Document,
        limit: Option<i64>,
    ) -> Result<impl Stream<Item = Result<RunCandidate, StoreError>> + Send + use<>, StoreError>
    {
        let found = self
            .subscriptions
            .clone_with_type::<Document>()
            .find(filter)
            .sort(doc! { "invoicedThrough": 1, "_id": 1 })
            .projection(
                doc! { "tenantId": 1, "cycle": 1, "invoicedThrough": 1, "billingAnchor": 1 },
            )
            .batch_size(STREAM_BATCH)
            .limit(limit.unwrap_or(0))
            .await?;
        Ok(skip_undecodable::<RunCandidate>(found))
    }
}
