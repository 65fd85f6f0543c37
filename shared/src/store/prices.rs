//! Price repository.

use std::sync::Arc;

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};

use super::{
    Store, StoreError, linearizable::find_one_linearizable, to_bson, versioned::versioned,
};
use crate::{
    billing::{Cycle, Plan, Price},
    id::PriceId,
};

/// Unique index: one price per plan, cycle and currency.
pub const PRICE_INDEX: &str = "plan_cycle_currency";

/// Prices of all plans.
#[derive(Debug, Clone)]
pub struct PriceRepository {
    prices: Collection<Price>,
}

versioned!(PriceRepository, prices: Price, PriceId);

impl PriceRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            prices: store.collection("prices"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let one_each = IndexOptions::builder()
            .name(PRICE_INDEX.to_owned())
            .unique(true)
            .build();
        let one_each = IndexModel::builder()
            .keys(doc! { "plan": 1, "cycle": 1, "currency": 1 })
            .options(one_each)
            .build();
        self.prices.create_indexes([one_each]).await?;
        Ok(())
    }

    /// The price with this id.
    pub async fn find(&self, id: PriceId) -> Result<Option<Price>, StoreError> {
        find_one_linearizable(&self.prices, doc! { "_id": id }).await
    }

    /// The price of this plan, cycle and currency, as seen by this transaction.
    pub async fn find_of(
        &self,
        session: &mut ClientSession,
        plan: Plan,
        cycle: Cycle,
        currency: &str,
    ) -> Result<Option<Price>, StoreError> {
        let filter =
            doc! { "plan": to_bson(&plan)?, "cycle": to_bson(&cycle)?, "currency": currency };
        self.prices.find_one(filter).session(session).await
    }

    /// At most `limit` prices after `after`, oldest first.
    pub async fn list(&self, after: Option<PriceId>, limit: i64) -> Result<Vec<Price>, StoreError> {
        let filter = match after {
            None => doc! {},
            Some(after) => doc! { "_id": { "$gt": after } },
        };
        self.prices
            .find(filter)
            .sort(doc! { "_id": 1 })
            .limit(limit)
            .await?
            .try_collect()
            .await
    }

    /// All prices; at most one per plan, cycle and currency.
    pub async fn list_all(&self) -> Result<Vec<Price>, StoreError> {
        self.prices.find(doc! {}).await?.try_collect().await
    }
}
