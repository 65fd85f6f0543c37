//! Price repository.

use bson::{Document, doc};
use futures::TryStreamExt as _;
use mongodb::ClientSession;

use super::{StoreError, index::unique, lenient::skip_undecodable, to_bson, versioned::versioned};
use crate::{
    billing::{Cycle, Plan, Price},
    id::PriceId,
};

/// Unique index: one price per plan, cycle and currency.
pub const PRICE_INDEX: &str = "plan_cycle_currency";

versioned! {
    /// Prices of all plans.
    PriceRepository, prices = "prices": Price, PriceId
}

impl PriceRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let keys = doc! { "plan": 1, "cycle": 1, "currency": 1 };
        self.prices.create_index(unique(PRICE_INDEX, keys)).await?;
        Ok(())
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

    /// All prices; at most one per plan, cycle and currency. Skips those of a newer build.
    pub async fn list_all(&self) -> Result<Vec<Price>, StoreError> {
        let prices = self.prices.clone_with_type::<Document>();
        skip_undecodable(prices.find(doc! {}).await?)
            .try_collect()
            .await
    }
}
