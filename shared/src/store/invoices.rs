//! Invoice repository, with the counters of invoice numbers.

use std::sync::Arc;

use bson::{DateTime, Document, doc};
use futures::{Stream, TryStreamExt as _};
use mongodb::{
    ClientSession, Collection, IndexModel,
    options::{IndexOptions, ReturnDocument},
};
use serde::Deserialize;

use super::{
    Store, StoreError, index::index, lenient::skip_undecodable,
    linearizable::find_one_linearizable, page::newest_page, tenant_resource_changes::changes_index,
    to_bson, versioned::versioned,
};
use crate::{
    billing::period::Period,
    id::{InvoiceId, PartnerId, SubscriptionId, TenantId},
    invoice::{Invoice, InvoiceStatus, number},
};

/// Documents of a batch of a stream.
const STREAM_BATCH: u32 = 1_000;
/// Overlapping invoices that are read.
const MAX_OVERLAPPING: i64 = 10;

/// Invoices of all tenants.
#[derive(Debug, Clone)]
pub struct InvoiceRepository {
    invoices: Collection<Invoice>,
    counters: Collection<Counter>,
}

/// Counter of invoice numbers.
#[derive(Debug, Deserialize)]
struct Counter {
    /// Position of the last number.
    last: i64,
}

/// Filter of an invoice list.
#[derive(Debug, Clone, Default)]
pub struct InvoiceFilter {
    /// Of this tenant.
    pub tenant_id: Option<TenantId>,
    /// Of tenants that this partner managed when the invoice was issued.
    pub partner_id: Option<PartnerId>,
    /// Filter by status.
    pub status: Option<InvoiceStatus>,
    /// Only items before this id (page cursor).
    pub before: Option<InvoiceId>,
}

/// Invoice that Stripe has not issued and sent yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnsentInvoice {
    /// Id.
    #[serde(rename = "_id")]
    pub id: InvoiceId,
    /// Invoiced tenant.
    pub tenant_id: TenantId,
}

/// Open invoice of a subscription whose due time has passed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DueInvoice {
    /// Invoiced tenant.
    pub tenant_id: TenantId,
    /// Invoiced subscription.
    pub subscription_id: SubscriptionId,
    /// Due time.
    pub due_at: DateTime,
}

versioned!(InvoiceRepository, invoices: Invoice, InvoiceId);

/// Matches open invoices that are not marked as overdue, as the partial index does.
fn not_overdue() -> Document {
    doc! { "status": InvoiceStatus::Open.name(), "isOverdue": false }
}

impl InvoiceRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            invoices: store.collection("invoices"),
            counters: store.collection("invoice_counters"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let present = |field: &str| {
            let options = IndexOptions::builder()
                .name(format!("one_per_{field}"))
                .unique(true)
                .partial_filter_expression(doc! { field: { "$exists": true } })
                .build();
            let keys = doc! { field: 1 };
            IndexModel::builder().keys(keys).options(options).build()
        };
        let due = IndexOptions::builder()
            .partial_filter_expression(not_overdue())
            .build();
        let due = IndexModel::builder()
            .keys(doc! { "dueAt": 1, "_id": 1 })
            .options(due)
            .build();
        let unsent = IndexOptions::builder()
            .partial_filter_expression(doc! { "stage": { "$exists": true } })
            .build();
        let unsent = IndexModel::builder()
            .keys(doc! { "updatedAt": 1, "_id": 1 })
            .options(unsent)
            .build();
        let indexes = [
            present("periodKey"),
            present("number"),
            present("stripe.id"),
            index(doc! { "tenantId": 1, "_id": 1 }),
            index(doc! { "tenantId": 1, "status": 1 }),
            index(doc! { "partnerId": 1, "_id": 1 }),
            index(doc! { "partnerId": 1, "status": 1, "_id": 1 }),
            index(doc! { "status": 1, "_id": 1 }),
            index(doc! { "subscriptionId": 1, "status": 1, "isOverdue": 1 }),
            due,
            unsent,
            changes_index(),
        ];
        self.invoices.create_indexes(indexes).await?;
        Ok(())
    }

    /// This tenant's invoice with this id.
    pub async fn find_of(
        &self,
        tenant_id: TenantId,
        id: InvoiceId,
    ) -> Result<Option<Invoice>, StoreError> {
        find_one_linearizable(&self.invoices, doc! { "_id": id, "tenantId": tenant_id }).await
    }

    /// As [`find_of`](Self::find_of), as seen by this transaction.
    pub async fn find_of_in(
        &self,
        session: &mut ClientSession,
        tenant_id: TenantId,
        id: InvoiceId,
    ) -> Result<Option<Invoice>, StoreError> {
        let filter = doc! { "_id": id, "tenantId": tenant_id };
        self.invoices.find_one(filter).session(session).await
    }

    /// The invoice of the period with this key, as seen by this transaction.
    pub async fn find_of_period(
        &self,
        session: &mut ClientSession,
        period_key: &str,
    ) -> Result<Option<Invoice>, StoreError> {
        let filter = doc! { "periodKey": period_key };
        self.invoices.find_one(filter).session(session).await
    }

    /// Invoices of periods of a subscription that overlap `period`, at most ten, as seen by this transaction.
    pub async fn list_overlapping(
        &self,
        session: &mut ClientSession,
        subscription_id: SubscriptionId,
        period: Period,
    ) -> Result<Vec<Invoice>, StoreError> {
        let filter = doc! {
            "subscriptionId": subscription_id, "periodKey": { "$exists": true },
            "period.start": { "$lt": period.end }, "period.end": { "$gt": period.start },
        };
        let found = self.invoices.find(filter).limit(MAX_OVERLAPPING);
        let mut found = found.session(&mut *session).await?;
        found.stream(session).try_collect().await
    }

    /// The invoice that mirrors this one of Stripe, as seen by this transaction.
    pub async fn find_mirror(
        &self,
        session: &mut ClientSession,
        stripe_id: &str,
    ) -> Result<Option<Invoice>, StoreError> {
        let filter = doc! { "stripe.id": stripe_id };
        self.invoices.find_one(filter).session(session).await
    }

    /// At most `limit` invoices that match `filter`, newest first. Skips those of a newer build.
    pub async fn list(
        &self,
        filter: &InvoiceFilter,
        limit: i64,
    ) -> Result<Vec<Invoice>, StoreError> {
        let mut matching = Document::new();
        if let Some(tenant) = filter.tenant_id {
            matching.insert("tenantId", tenant);
        }
        if let Some(partner) = filter.partner_id {
            matching.insert("partnerId", partner);
        }
        if let Some(status) = &filter.status {
            matching.insert("status", to_bson(status)?);
        }
        newest_page(&self.invoices, matching, filter.before, limit).await
    }

    /// All open invoices of a tenant. Skips those of a newer build.
    pub async fn list_open(&self, tenant_id: TenantId) -> Result<Vec<Invoice>, StoreError> {
        let filter = doc! { "tenantId": tenant_id, "status": InvoiceStatus::Open.name() };
        let invoices = self.invoices.clone_with_type::<Document>();
        skip_undecodable(invoices.find(filter).await?)
            .try_collect()
            .await
    }

    /// Open invoices of subscriptions that were due at `until` and are not marked as overdue, from those due at `from`
    /// on, ordered by due time.
    pub async fn list_newly_overdue(
        &self,
        from: Option<DateTime>,
        until: DateTime,
    ) -> Result<impl Stream<Item = Result<DueInvoice, StoreError>> + Send + use<>, StoreError> {
        let mut due = doc! { "$lte": until };
        if let Some(from) = from {
            due.insert("$gte", from);
        }
        let mut filter = not_overdue();
        filter.insert("dueAt", due);
        filter.insert("subscriptionId", doc! { "$exists": true });
        self.invoices
            .clone_with_type::<DueInvoice>()
            .find(filter)
            .sort(doc! { "dueAt": 1, "_id": 1 })
            .projection(doc! { "tenantId": 1, "subscriptionId": 1, "dueAt": 1 })
            .batch_size(STREAM_BATCH)
            .await
    }

    /// At most `limit` invoices that Stripe has not sent, that are not to be voided, and that have not changed since
    /// `before`, those that changed first. One that Stripe refused waits for its next try at `now`, so that it does not
    /// take the place of another.
    pub async fn list_unsent(
        &self,
        before: DateTime,
        now: DateTime,
        limit: i64,
    ) -> Result<Vec<UnsentInvoice>, StoreError> {
        let filter = doc! {
            "stage": { "$exists": true }, "updatedAt": { "$lt": before }, "voidReason": { "$exists": false },
            "$or": [{ "error": { "$exists": false } }, { "error.retryAt": { "$lte": now } }],
        };
        let invoices = self.invoices.clone_with_type::<UnsentInvoice>();
        let found = invoices
            .find(filter)
            .sort(doc! { "updatedAt": 1, "_id": 1 })
            .projection(doc! { "tenantId": 1 })
            .limit(limit);
        found.await?.try_collect().await
    }

    /// Marks the open invoices of a subscription that were due at `until` as overdue.
    pub async fn mark_overdue(
        &self,
        session: &mut ClientSession,
        subscription_id: SubscriptionId,
        until: DateTime,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let mut filter = not_overdue();
        filter.insert("subscriptionId", subscription_id);
        filter.insert("dueAt", doc! { "$lte": until });
        let update = doc! {
            "$set": { "isOverdue": true, "updatedAt": now },
            "$inc": { "revision": 1_i64 },
        };
        let marked = self.invoices.update_many(filter, update);
        marked.session(session).await?;
        Ok(())
    }

    /// Whether a subscription has an overdue invoice, as seen by this transaction.
    pub async fn has_overdue(
        &self,
        session: &mut ClientSession,
        subscription_id: SubscriptionId,
    ) -> Result<bool, StoreError> {
        let filter = doc! {
            "subscriptionId": subscription_id, "status": InvoiceStatus::Open.name(), "isOverdue": true,
        };
        let invoices = self.invoices.clone_with_type::<Document>();
        let found = invoices.find_one(filter).projection(doc! { "_id": 1 });
        Ok(found.session(session).await?.is_some())
    }

    /// The next number of a counter. The transaction that takes it issues the invoice, so that an aborted one leaves no
    /// gap.
    ///
    /// Concurrent transactions on one counter conflict, so take the number before other writes: the one that is repeated
    /// has then done little.
    pub async fn next_number(
        &self,
        session: &mut ClientSession,
        counter_key: &str,
    ) -> Result<String, StoreError> {
        let increment = doc! { "$inc": { "last": 1_i64 } };
        let counted = self
            .counters
            .find_one_and_update(doc! { "_id": counter_key }, increment)
            .upsert(true)
            .return_document(ReturnDocument::After)
            .session(session)
            .await?;
        let counted =
            counted.ok_or_else(|| StoreError::custom("an upsert returned nothing".to_owned()))?;
        Ok(number(counter_key, counted.last))
    }
}
