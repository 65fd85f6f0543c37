//! Payout repository.

use bson::{Document, doc};

use super::{StoreError, index::index, page::newest_page, to_bson, versioned::versioned};
use crate::{
    id::{PartnerId, PayoutId},
    ledger::{Payout, PayoutStatus},
};

versioned! {
    /// Payouts of all partners.
    PayoutRepository, payouts = "payouts": Payout, PayoutId
}

/// Filter of a payout list.
#[derive(Debug, Clone, Default)]
pub struct PayoutFilter {
    /// Of this partner.
    pub partner_id: Option<PartnerId>,
    /// Filter by status.
    pub status: Option<PayoutStatus>,
    /// Only items before this id (page cursor).
    pub before: Option<PayoutId>,
}

impl PayoutRepository {
    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let listed = ["partnerId", "status"].map(|field| index(doc! { field: 1, "_id": 1 }));
        self.payouts.create_indexes(listed).await?;
        Ok(())
    }

    /// At most `limit` payouts that match `filter`, the last month first. Skips those of a newer build.
    pub async fn list(&self, filter: &PayoutFilter, limit: i64) -> Result<Vec<Payout>, StoreError> {
        let mut matching = Document::new();
        if let Some(partner) = filter.partner_id {
            matching.insert("partnerId", partner);
        }
        if let Some(status) = &filter.status {
            matching.insert("status", to_bson(status)?);
        }
        newest_page(&self.payouts, matching, filter.before, limit).await
    }
}
