//! Invoice run repository: where the search for subscriptions to enrol continues.
//!
//! While the flag is on for some tenants only, most subscriptions that are not enrolled stay so. A run looks at a part of
//! them, and the next run continues behind it.

use std::sync::Arc;

use bson::{Bson, doc};
use mongodb::Collection;
use serde::{Deserialize, Serialize};

use super::{Store, StoreError};
use crate::id::SubscriptionId;

/// Id of the document.
const NOT_ENROLLED: &str = "not_enrolled";

/// Position of the invoice run.
#[derive(Debug, Clone)]
pub struct InvoiceRunRepository {
    positions: Collection<Position>,
}

/// Position in the subscriptions that are not enrolled.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    /// The last subscription that was looked at; missing at the start.
    #[serde(default)]
    after: Option<SubscriptionId>,
}

impl InvoiceRunRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            positions: store.collection("invoice_run"),
        }
    }

    /// The subscription after which the next run continues; `None` at the start.
    pub async fn position(&self) -> Result<Option<SubscriptionId>, StoreError> {
        let found = self.positions.find_one(doc! { "_id": NOT_ENROLLED });
        Ok(found.await?.and_then(|position| position.after))
    }

    /// Sets the subscription after which the next run continues.
    pub async fn set_position(&self, after: Option<SubscriptionId>) -> Result<(), StoreError> {
        let after = after.map_or(Bson::Null, Bson::from);
        let update = doc! { "$set": { "after": after } };
        let updated = self
            .positions
            .update_one(doc! { "_id": NOT_ENROLLED }, update);
        updated.upsert(true).await?;
        Ok(())
    }
}
