//! The prices.

use std::sync::Arc;

use bson::doc;
use futures::TryStreamExt as _;
use mongodb::{
    ClientSession, Collection, IndexModel,
    options::{IndexOptions, ReturnDocument},
};

use super::{Store, StoreError, known, to_bson};
use crate::{id::PriceId, price::Price, subscription::Cycle, tenant::Plan};

/// The name of the index that keeps a plan from having two prices for one cycle in one currency.
pub const PRICE_INDEX: &str = "plan_cycle_currency";

/// The prices of all plans.
#[derive(Debug, Clone)]
pub struct PriceRepository {
    prices: Collection<Price>,
}

impl PriceRepository {
    /// The prices in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            prices: store.collection("prices"),
        }
    }

    /// Makes the indexes.
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
        self.prices.find_one(doc! { "_id": id }).await
    }

    /// What this plan costs, as this transaction sees it.
    pub async fn find_in(
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

    /// All prices: at most one for each plan, cycle and currency.
    pub async fn list_all(&self) -> Result<Vec<Price>, StoreError> {
        self.prices.find(doc! {}).await?.try_collect().await
    }

    /// Adds a price. A second one of its kind violates [`PRICE_INDEX`].
    pub async fn insert(
        &self,
        session: &mut ClientSession,
        price: &Price,
    ) -> Result<(), StoreError> {
        self.prices.insert_one(price).session(session).await?;
        Ok(())
    }

    /// The price with this id, to be written in this transaction: its revision is already one more.
    pub async fn lock(
        &self,
        session: &mut ClientSession,
        id: PriceId,
    ) -> Result<Option<Price>, StoreError> {
        self.prices
            .find_one_and_update(doc! { "_id": id }, doc! { "$inc": { "revision": 1_i64 } })
            .return_document(ReturnDocument::After)
            .session(session)
            .await
    }

    /// Leaves a price that was locked in this transaction as it was before.
    pub async fn unlock(&self, session: &mut ClientSession, id: PriceId) -> Result<(), StoreError> {
        self.prices
            .update_one(doc! { "_id": id }, doc! { "$inc": { "revision": -1_i64 } })
            .session(session)
            .await?;
        Ok(())
    }

    /// Writes a price that was locked in this transaction.
    pub async fn save(&self, session: &mut ClientSession, price: &Price) -> Result<(), StoreError> {
        self.prices
            .update_one(doc! { "_id": price.id }, known::update_to(price)?)
            .session(session)
            .await?;
        Ok(())
    }

    /// Deletes a price that was locked in this transaction.
    pub async fn delete(&self, session: &mut ClientSession, id: PriceId) -> Result<(), StoreError> {
        self.prices
            .delete_one(doc! { "_id": id })
            .session(session)
            .await?;
        Ok(())
    }
}
