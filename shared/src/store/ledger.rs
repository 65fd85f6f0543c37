//! Ledger repository: entries, and the balances that add them up.
//!
//! Each entry and each payout changes the balance in its own transaction, so that no request adds up a million entries.

use std::sync::Arc;

use bson::{Bson, DateTime, Document, doc};
use futures::{Stream, TryStreamExt as _};
use mongodb::{ClientSession, Collection, IndexModel, options::IndexOptions};
use serde::Deserialize;

use super::{
    Store, StoreError, billing_totals::BillingTotalsRepository, index::index,
    lenient::skip_undecodable, page::newest_page,
};
use crate::{
    id::{LedgerEntryId, PartnerId, PayoutId},
    invoice::Invoice,
    ledger::{EntryKind, LedgerEntry, PartnerBalance, Payout},
};

/// Ledger entries and balances of all partners.
#[derive(Debug, Clone)]
pub struct LedgerRepository {
    entries: Collection<LedgerEntry>,
    balances: Collection<PartnerBalance>,
    totals: BillingTotalsRepository,
}

/// Sum and number of entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub struct EntrySum {
    /// Sum of the amounts, in minor units.
    pub sum: i64,
    /// Number of entries.
    pub count: i64,
}

/// The entries that a payout settles: those recorded before a time that no other payout settles.
#[derive(Debug, Clone, Copy)]
pub struct Closing<'a> {
    /// Partner.
    pub partner_id: PartnerId,
    /// Currency.
    pub currency: &'a str,
    /// End of the month.
    pub before: DateTime,
    /// The payout.
    pub payout_id: PayoutId,
}

impl Closing<'_> {
    fn filter(&self, payouts: impl IntoIterator<Item = Bson>) -> Document {
        let payouts: Vec<Bson> = payouts.into_iter().collect();
        doc! {
            "partnerId": self.partner_id, "currency": self.currency, "payoutId": { "$in": payouts },
            "recordedAt": { "$lt": self.before },
        }
    }
}

impl LedgerRepository {
    /// The repository in `store`.
    pub fn new(store: &Arc<Store>) -> Self {
        Self {
            entries: store.collection("ledger_entries"),
            balances: store.collection("partner_balances"),
            totals: BillingTotalsRepository::new(store),
        }
    }

    /// Creates the indexes.
    pub async fn ensure_indexes(&self) -> Result<(), StoreError> {
        let of_invoice = IndexOptions::builder()
            .unique(true)
            .partial_filter_expression(doc! { "invoiceId": { "$exists": true } })
            .build();
        let of_invoice = IndexModel::builder()
            .keys(doc! { "invoiceId": 1, "sequence": 1 })
            .options(of_invoice)
            .build();
        let closing = doc! { "partnerId": 1, "currency": 1, "payoutId": 1, "recordedAt": 1 };
        let indexes = [
            of_invoice,
            index(closing),
            index(doc! { "partnerId": 1, "_id": 1 }),
        ];
        self.entries.create_indexes(indexes).await?;
        let of_partner = index(doc! { "partnerId": 1, "_id": 1 });
        self.balances.create_index(of_partner).await?;
        Ok(())
    }

    /// Appends the missing amount of the partner's share of an invoice, in the transaction that changes the invoice. A
    /// concurrent change of the invoice conflicts with that.
    pub async fn settle_invoice(
        &self,
        session: &mut ClientSession,
        invoice: &Invoice,
        now: DateTime,
    ) -> Result<(), StoreError> {
        if invoice.partner_id.is_none() {
            return Ok(());
        }
        let known = self.sum(Some(&mut *session), doc! { "invoiceId": invoice.id });
        let EntrySum { sum, count } = known.await?;
        match invoice.missing_entry(count, sum, now) {
            Some(entry) => self.append(session, &entry).await,
            None => Ok(()),
        }
    }

    /// Appends an entry.
    pub async fn append(
        &self,
        session: &mut ClientSession,
        entry: &LedgerEntry,
    ) -> Result<(), StoreError> {
        self.entries
            .insert_one(entry)
            .session(&mut *session)
            .await?;
        self.totals.record_entry(session, entry).await?;
        let amount = entry.amount_minor;
        let (field, by) = match entry.kind {
            EntryKind::Accrual => ("accruedMinor", amount),
            EntryKind::Reversal => ("reversedMinor", -amount),
            EntryKind::Adjustment => ("adjustedMinor", amount),
        };
        let changes = doc! { field: by, "unsettledMinor": amount };
        self.change_balance(session, entry.partner_id, &entry.currency, changes)
            .await
    }

    async fn change_balance(
        &self,
        session: &mut ClientSession,
        partner: PartnerId,
        currency: &str,
        changes: Document,
    ) -> Result<(), StoreError> {
        let id = PartnerBalance::id(partner, currency);
        let update = doc! {
            "$inc": changes,
            "$setOnInsert": { "partnerId": partner, "currency": currency },
        };
        let updated = self.balances.update_one(doc! { "_id": id }, update);
        updated.upsert(true).session(session).await?;
        Ok(())
    }

    /// Moves the amount of a new payout from unsettled to pending.
    pub async fn open_payout(
        &self,
        session: &mut ClientSession,
        payout: &Payout,
    ) -> Result<(), StoreError> {
        let amount = payout.amount_minor;
        let changes = doc! { "unsettledMinor": -amount, "pendingMinor": amount };
        self.change_balance(session, payout.partner_id, &payout.currency, changes)
            .await
    }

    /// Moves the amount of a cancelled payout from pending back to unsettled.
    pub async fn cancel_payout(
        &self,
        session: &mut ClientSession,
        payout: &Payout,
    ) -> Result<(), StoreError> {
        let amount = payout.amount_minor;
        let changes = doc! { "unsettledMinor": amount, "pendingMinor": -amount };
        self.change_balance(session, payout.partner_id, &payout.currency, changes)
            .await
    }

    /// Moves the amount of a paid payout from pending to paid out.
    pub async fn pay_out(
        &self,
        session: &mut ClientSession,
        payout: &Payout,
    ) -> Result<(), StoreError> {
        let amount = payout.amount_minor;
        let changes = doc! { "pendingMinor": -amount, "paidOutMinor": amount };
        self.change_balance(session, payout.partner_id, &payout.currency, changes)
            .await
    }

    /// The balance of a partner in a currency, as seen by this transaction.
    pub async fn find_balance(
        &self,
        session: &mut ClientSession,
        partner: PartnerId,
        currency: &str,
    ) -> Result<Option<PartnerBalance>, StoreError> {
        let id = PartnerBalance::id(partner, currency);
        let found = self.balances.find_one(doc! { "_id": id });
        found.session(session).await
    }

    /// The balances of a partner, by currency.
    pub async fn list_balances(
        &self,
        partner: PartnerId,
    ) -> Result<Vec<PartnerBalance>, StoreError> {
        let found = self.balances.find(doc! { "partnerId": partner });
        found.sort(doc! { "_id": 1 }).await?.try_collect().await
    }

    /// The balances of all partners after `after`, ordered by id. Skips those of a newer build.
    pub async fn all_balances(
        &self,
        after: Option<&str>,
    ) -> Result<impl Stream<Item = Result<PartnerBalance, StoreError>> + Send + use<>, StoreError>
    {
        let filter = after.map_or_else(Document::new, |after| doc! { "_id": { "$gt": after } });
        let balances = self.balances.clone_with_type::<Document>();
        let found = balances.find(filter).sort(doc! { "_id": 1 }).await?;
        Ok(skip_undecodable(found))
    }

    /// At most `limit` entries of a partner before `before`, newest first. Skips those of a newer build.
    pub async fn list_entries(
        &self,
        partner: PartnerId,
        before: Option<LedgerEntryId>,
        limit: i64,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        newest_page(&self.entries, doc! { "partnerId": partner }, before, limit).await
    }

    /// Sum and number of the entries that a payout settles, whether they are marked already or not. They may be a million:
    /// for jobs only.
    pub async fn sum_closing(&self, closing: Closing<'_>) -> Result<EntrySum, StoreError> {
        let filter = closing.filter([Bson::Null, closing.payout_id.into()]);
        self.sum(None, filter).await
    }

    /// Sum and number of the entries that are marked as settled by a payout.
    pub async fn sum_marked(&self, closing: Closing<'_>) -> Result<EntrySum, StoreError> {
        self.sum(None, closing.filter([closing.payout_id.into()]))
            .await
    }

    async fn sum(
        &self,
        session: Option<&mut ClientSession>,
        filter: Document,
    ) -> Result<EntrySum, StoreError> {
        let group =
            doc! { "_id": null, "sum": { "$sum": "$amountMinor" }, "count": { "$sum": 1_i64 } };
        let pipeline = [doc! { "$match": filter }, doc! { "$group": group }];
        let summed = self.entries.aggregate(pipeline).with_type::<EntrySum>();
        let found = match session {
            Some(session) => {
                let mut found = summed.session(&mut *session).await?;
                found.next(session).await.transpose()?
            }
            None => summed.await?.try_next().await?,
        };
        Ok(found.unwrap_or_default())
    }

    /// Marks at most `limit` entries of a payout as settled by it. Returns their number; 0 once all are marked.
    pub async fn mark_settled(
        &self,
        session: &mut ClientSession,
        closing: Closing<'_>,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let filter = closing.filter([Bson::Null]);
        let ids = self.ids(session, filter, limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let filter = doc! { "_id": { "$in": ids } };
        let set = doc! { "$set": { "payoutId": closing.payout_id } };
        let marked = self.entries.update_many(filter, set).session(session);
        Ok(marked.await?.modified_count)
    }

    /// Removes the mark of at most `limit` entries of a cancelled payout. Returns their number; 0 once none is left.
    pub async fn release(
        &self,
        session: &mut ClientSession,
        payout: &Payout,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let filter = doc! {
            "partnerId": payout.partner_id, "currency": &payout.currency, "payoutId": payout.id,
        };
        let ids = self.ids(session, filter, limit).await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let filter = doc! { "_id": { "$in": ids } };
        let unset = doc! { "$unset": { "payoutId": "" } };
        let released = self.entries.update_many(filter, unset).session(session);
        Ok(released.await?.modified_count)
    }

    /// Ids of at most `limit` entries that match.
    async fn ids(
        &self,
        session: &mut ClientSession,
        filter: Document,
        limit: i64,
    ) -> Result<Vec<LedgerEntryId>, StoreError> {
        #[derive(Deserialize)]
        struct Id {
            #[serde(rename = "_id")]
            id: LedgerEntryId,
        }
        let entries = self.entries.clone_with_type::<Id>();
        let mut found = entries
            .find(filter)
            .projection(doc! { "_id": 1 })
            .limit(limit)
            .session(&mut *session)
            .await?;
        let mut ids = Vec::new();
        while let Some(entry) = found.next(session).await.transpose()? {
            ids.push(entry.id);
        }
        Ok(ids)
    }
}
