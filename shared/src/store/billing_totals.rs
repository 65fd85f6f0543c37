//! Monthly totals repository. Each change of an invoice and each ledger entry adds to the totals in its own transaction, so
//! that no summary adds up a million documents.

use std::{collections::BTreeMap, sync::Arc};

use bson::{DateTime, Document, deserialize_from_document, doc};
use futures::TryStreamExt as _;
use mongodb::{ClientSession, Collection};

use super::{Store, StoreError, index::index, lenient::LISTING};
use crate::{
    billing::month::Month,
    billing_totals::{MonthTotals, Scope},
    id::PartnerId,
    invoice::Invoice,
    ledger::LedgerEntry,
};

/// Documents over which the platform's totals of a month are spread: concurrent transactions on one document conflict.
const SHARDS: u8 = 16;

/// Totals of all months, by scope and currency.
#[derive(Debug, Clone)]
pub struct BillingTotalsRepository {
    totals: Collection<MonthTotals>,
}

impl BillingTotalsRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            totals: store.collection("billing_totals"),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let of_scope = index(doc! { "scope": 1, "month": 1 });
        let of_month = index(doc! { "month": 1, "scope": 1 });
        self.totals.create_indexes([of_scope, of_month]).await?;
        Ok(())
    }

    /// Adds the totals of a change of an invoice, in the transaction that makes it. `before` is missing for a new one.
    pub async fn record_invoice(
        &self,
        session: &mut ClientSession,
        before: Option<&Invoice>,
        after: &Invoice,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let change = MonthTotals::of_invoice(before, after, now);
        let key = shard_of(after.tenant_id.bytes());
        self.add(session, Scope::Platform, key, &change).await?;
        match after.partner_id {
            Some(id) => self.add(session, Scope::Partner(id), 0, &change).await,
            None => Ok(()),
        }
    }

    /// Adds a ledger entry, in the transaction that appends it.
    pub async fn record_entry(
        &self,
        session: &mut ClientSession,
        entry: &LedgerEntry,
    ) -> Result<(), StoreError> {
        let change = MonthTotals::of_entry(entry);
        let key = shard_of(entry.id.bytes());
        self.add(session, Scope::Platform, key, &change).await?;
        let partner = Scope::Partner(entry.partner_id);
        self.add(session, partner, 0, &change).await
    }

    async fn add(
        &self,
        session: &mut ClientSession,
        scope: Scope,
        shard: u8,
        change: &MonthTotals,
    ) -> Result<(), StoreError> {
        let increments = increments(change);
        if increments.is_empty() {
            return Ok(());
        }
        let (month, currency) = (change.month.to_string(), &change.currency);
        let id = format!("{month}/{scope}/{currency}/{shard}");
        let update = doc! {
            "$inc": increments,
            "$setOnInsert": { "scope": scope.to_string(), "month": month, "currency": currency },
        };
        let updated = self.totals.update_one(doc! { "_id": id }, update);
        updated.upsert(true).session(session).await?;
        Ok(())
    }

    /// Totals of the months from `from` to `through`, ordered by month and currency.
    pub async fn list(
        &self,
        scope: Scope,
        from: Month,
        through: Month,
    ) -> Result<Vec<MonthTotals>, StoreError> {
        let months = doc! { "$gte": from.to_string(), "$lte": through.to_string() };
        let filter = doc! { "scope": scope.to_string(), "month": months };
        let mut found = self.totals.find(filter).await?;
        let mut sums: BTreeMap<(Month, String), MonthTotals> = BTreeMap::new();
        while let Some(part) = found.try_next().await? {
            let key = (part.month, part.currency.clone());
            let empty = || MonthTotals::new(part.month, part.currency.clone());
            sums.entry(key).or_insert_with(empty).add(&part);
        }
        Ok(sums.into_values().collect())
    }

    /// Totals of each partner in the months from `from` to `through`, in no order: one for each month and currency. `None`
    /// if there are more than `limit`.
    pub async fn list_of_partners(
        &self,
        from: Month,
        through: Month,
        limit: i64,
    ) -> Result<Option<Vec<(PartnerId, MonthTotals)>>, StoreError> {
        let filter = doc! {
            "month": { "$gte": from.to_string(), "$lte": through.to_string() },
            "scope": { "$ne": Scope::Platform.to_string() },
        };
        let totals = self.totals.clone_with_type::<Document>();
        let found = totals.find(filter).limit(limit + 1).max_time(LISTING);
        let found: Vec<Document> = found.await?.try_collect().await?;
        if found.len() > usize::try_from(limit).unwrap_or_default() {
            return Ok(None);
        }
        let totals: Result<Vec<_>, StoreError> = found.into_iter().map(of_partner).collect();
        totals.map(Some)
    }
}

/// A partner's totals, with the partner.
fn of_partner(totals: Document) -> Result<(PartnerId, MonthTotals), StoreError> {
    let scope = totals.get_str("scope").ok();
    let partner: Option<PartnerId> = scope.and_then(|id| id.parse().ok());
    let partner = partner.ok_or_else(|| {
        StoreError::custom("the scope of a month's totals is no partner".to_owned())
    })?;
    let totals: MonthTotals =
        deserialize_from_document(totals).map_err(|error| StoreError::custom(error.to_string()))?;
    Ok((partner, totals))
}

fn shard_of(id: [u8; 16]) -> u8 {
    id[15] % SHARDS
}

/// The fields that change.
fn increments(change: &MonthTotals) -> Document {
    let mut increments = Document::new();
    for (field, amount) in [
        ("billedMinor", change.billed_minor),
        ("voidedMinor", change.voided_minor),
        ("paidMinor", change.paid_minor),
        ("accruedMinor", change.accrued_minor),
        ("reversedMinor", change.reversed_minor),
        ("adjustedMinor", change.adjusted_minor),
    ] {
        if amount != 0 {
            increments.insert(field, amount);
        }
    }
    for (plan, amount) in &change.paid_by_plan {
        increments.insert(format!("paidByPlan.{plan}"), *amount);
    }
    increments
}
