//! Repository of the sums of months, by scope, and of the months in which tenants paid first.

use std::sync::Arc;

use bson::{Bson, DateTime, Document, doc};
use futures::{Stream, TryStreamExt as _};
use mongodb::Collection;
use serde::Deserialize;

use super::{Store, StoreError, bulk_upsert::bulk_upsert, index::index, to_document};
use crate::{billing::month::Month, billing_totals::Scope, id::TenantId, report::ReportMonth};

/// Sums written in one command.
const BATCH: usize = 100;
/// Documents of a batch of a stream.
const STREAM_BATCH: u32 = 1_000;

/// Sums of all months and scopes.
#[derive(Debug, Clone)]
pub struct ReportMonthRepository {
    store: Arc<Store>,
    months: Collection<ReportMonth>,
    first_payments: Collection<FirstPayment>,
}

/// Month in which a tenant paid first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct FirstPayment {
    /// Tenant.
    #[serde(rename = "_id")]
    pub tenant_id: TenantId,
    /// Month.
    pub month: Month,
}

/// Parts of the sums, of which each report reads one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Numbers of tenants, and sums by currency and plan.
    Revenue,
    /// Numbers of tenants by their first month.
    Cohorts,
    /// Everything.
    All,
    /// Only that the month is added up.
    Existence,
}

impl Part {
    /// The fields that are read or left out.
    fn projection(self) -> Document {
        match self {
            Self::Revenue => doc! { "top": 0, "cohorts": 0, "health": 0 },
            Self::Cohorts => doc! { "top": 0, "currencies": 0, "health": 0 },
            Self::All => Document::new(),
            Self::Existence => {
                doc! { "month": 1, "scope": 1, "asOf": 1, "summarizedAt": 1 }
            }
        }
    }
}

impl ReportMonthRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            store: store.clone(),
            months: store.collection("report_months"),
            first_payments: store.collection("first_payments"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        self.months.create_index(index(doc! { "month": 1 })).await?;
        Ok(())
    }

    /// Replaces the sums of a month, unless they were added up later: an attempt that lost its lease, and continues, leaves
    /// those of its successor. The last one is the platform's, without which the month counts as missing.
    pub async fn replace_month(&self, sums: &[ReportMonth]) -> Result<(), StoreError> {
        let Some((platform, partners)) = sums.split_last() else {
            return Ok(());
        };
        for batch in partners.chunks(BATCH) {
            self.upsert(batch).await?;
        }
        // Partners that have no tenants any more.
        let gone = doc! {
            "month": platform.month.to_string(), "scope": { "$ne": &platform.scope },
            "summarizedAt": { "$lt": platform.summarized_at },
        };
        self.months.delete_many(gone).await?;
        self.upsert(std::slice::from_ref(platform)).await
    }

    async fn upsert(&self, sums: &[ReportMonth]) -> Result<(), StoreError> {
        let upserts = sums.iter().map(|sums| {
            let not_later =
                doc! { "_id": &sums.id, "summarizedAt": { "$lte": sums.summarized_at } };
            Ok(doc! { "q": not_later, "u": to_document(sums)? })
        });
        let upserts = upserts.collect::<Result<Vec<_>, StoreError>>()?;
        bulk_upsert(&self.store, self.months.name(), upserts).await
    }

    /// The part of these months' sums that exists, in no order.
    pub async fn list(
        &self,
        scope: Scope,
        months: &[Month],
        part: Part,
    ) -> Result<Vec<ReportMonth>, StoreError> {
        let ids = months.iter().map(|month| ReportMonth::id(*month, scope));
        let filter = doc! { "_id": { "$in": ids.collect::<Vec<_>>() } };
        let found = self.months.find(filter).projection(part.projection());
        found.await?.try_collect().await
    }

    /// Whether the month is added up.
    pub async fn has_month(&self, month: Month) -> Result<bool, StoreError> {
        let filter = doc! { "_id": ReportMonth::id(month, Scope::Platform) };
        let months = self.months.clone_with_type::<Document>();
        let found = months.find_one(filter).projection(doc! { "_id": 1 });
        Ok(found.await?.is_some())
    }

    /// The months in which tenants paid first, ordered by tenant.
    pub async fn first_payments(
        &self,
    ) -> Result<impl Stream<Item = Result<FirstPayment, StoreError>> + Send + use<>, StoreError>
    {
        let found = self.first_payments.find(doc! {}).sort(doc! { "_id": 1 });
        found.batch_size(STREAM_BATCH).await
    }

    /// Records that these tenants paid first in `month`, unless they paid earlier.
    pub async fn add_first_payments(
        &self,
        tenants: &[TenantId],
        month: Month,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let update = doc! {
            "$min": { "month": month.to_string() }, "$setOnInsert": { "recordedAt": now },
        };
        let updates = tenants.iter().map(|tenant| {
            let id: Bson = (*tenant).into();
            doc! { "q": { "_id": id }, "u": update.clone() }
        });
        bulk_upsert(&self.store, self.first_payments.name(), updates.collect()).await
    }
}
