//! Monthly totals of billing: the amounts billed, paid and credited to partners, counted by the time of recording, so that a
//! month that is over never changes.

use std::{collections::BTreeMap, fmt};

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    billing::{Plan, month::Month},
    id::PartnerId,
    invoice::{Invoice, InvoiceStatus},
    ledger::{EntryKind, LedgerEntry},
};

/// Plan under which payments are counted that belong to none.
pub const WITHOUT_PLAN: &str = "other";

/// Tenants that totals and reports cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scope {
    /// All tenants.
    Platform,
    /// The tenants that a partner managed at the time.
    Partner(PartnerId),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str("platform"),
            Self::Partner(id) => id.fmt(f),
        }
    }
}

/// Totals of a month in one currency, in minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MonthTotals {
    /// Month.
    pub month: Month,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Net amounts of the invoices that were issued, less corrections.
    #[serde(default)]
    pub billed_minor: i64,
    /// Net amounts of the invoices that were voided.
    #[serde(default)]
    pub voided_minor: i64,
    /// Net amounts that were paid, less corrections.
    #[serde(default)]
    pub paid_minor: i64,
    /// Payments by plan.
    #[serde(default)]
    pub paid_by_plan: BTreeMap<String, i64>,
    /// Partners' shares of paid invoices.
    #[serde(default)]
    pub accrued_minor: i64,
    /// Shares that were taken back, positive.
    #[serde(default)]
    pub reversed_minor: i64,
    /// Amounts that operators wrote to partners' ledgers.
    #[serde(default)]
    pub adjusted_minor: i64,
}

impl MonthTotals {
    /// Totals of nothing.
    pub fn new(month: Month, currency: String) -> Self {
        Self {
            month,
            currency,
            billed_minor: 0,
            voided_minor: 0,
            paid_minor: 0,
            paid_by_plan: BTreeMap::new(),
            accrued_minor: 0,
            reversed_minor: 0,
            adjusted_minor: 0,
        }
    }

    /// Totals added by a change of an invoice at `now`; `before` is missing for a new one.
    pub fn of_invoice(before: Option<&Invoice>, after: &Invoice, now: DateTime) -> Self {
        let mut totals = Self::new(Month::of(now), after.currency.clone());
        let before_amount = |amount: fn(&Invoice) -> i64| before.map_or(0, amount);
        // What Stripe issues may be less than the draft: a discount is only known there.
        totals.billed_minor = after.subtotal_minor - before_amount(|it| it.subtotal_minor);
        totals.voided_minor = voided(after) - before_amount(voided);
        totals.paid_minor = paid(after) - before_amount(paid);
        if totals.paid_minor != 0 {
            let plan = after.plan.map_or(WITHOUT_PLAN, Plan::name);
            let by_plan = BTreeMap::from([(plan.to_owned(), totals.paid_minor)]);
            totals.paid_by_plan = by_plan;
        }
        totals
    }

    /// Totals added by a ledger entry.
    pub fn of_entry(entry: &LedgerEntry) -> Self {
        let mut totals = Self::new(Month::of(entry.recorded_at), entry.currency.clone());
        match entry.kind {
            EntryKind::Accrual => totals.accrued_minor = entry.amount_minor,
            EntryKind::Reversal => totals.reversed_minor = -entry.amount_minor,
            EntryKind::Adjustment => totals.adjusted_minor = entry.amount_minor,
        }
        totals
    }

    /// Adds totals of the same month and currency.
    pub fn add(&mut self, other: &Self) {
        for (sum, amount) in [
            (&mut self.billed_minor, other.billed_minor),
            (&mut self.voided_minor, other.voided_minor),
            (&mut self.paid_minor, other.paid_minor),
            (&mut self.accrued_minor, other.accrued_minor),
            (&mut self.reversed_minor, other.reversed_minor),
            (&mut self.adjusted_minor, other.adjusted_minor),
        ] {
            *sum = sum.saturating_add(amount);
        }
        for (plan, amount) in &other.paid_by_plan {
            let sum = self.paid_by_plan.entry(plan.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Share of the month that partners are owed.
    pub fn partner_share_minor(&self) -> i64 {
        self.accrued_minor - self.reversed_minor + self.adjusted_minor
    }
}

fn paid(invoice: &Invoice) -> i64 {
    match invoice.status {
        InvoiceStatus::Paid => invoice.kept_minor(),
        InvoiceStatus::Draft
        | InvoiceStatus::Open
        | InvoiceStatus::Uncollectible
        | InvoiceStatus::Void => 0,
    }
}

fn voided(invoice: &Invoice) -> i64 {
    match invoice.status {
        InvoiceStatus::Void => invoice.subtotal_minor,
        InvoiceStatus::Draft
        | InvoiceStatus::Open
        | InvoiceStatus::Paid
        | InvoiceStatus::Uncollectible => 0,
    }
}

#[cfg(test)]
mod tests {
    use bson::{deserialize_from_document, doc};

    use super::*;
    use crate::id::{InvoiceId, TenantId};

    fn invoice(status: InvoiceStatus, subtotal_minor: i64) -> Invoice {
        let now = DateTime::from_millis(0);
        deserialize_from_document(doc! {
            "_id": InvoiceId::from_bytes([1; 16]), "tenantId": TenantId::from_bytes([2; 16]), "marginBasisPoints": 0,
            "kind": "cycle", "status": status.name(), "billTo": {}, "currency": "DKK", "lines": [],
            "subtotalMinor": subtotal_minor, "taxNote": "net", "issuedAt": now, "isOverdue": false, "revision": 1_i64,
            "createdAt": now, "updatedAt": now,
        })
        .unwrap()
    }

    #[test]
    fn the_totals_of_all_changes_of_an_invoice_are_those_of_its_last_state() {
        use InvoiceStatus::{Draft, Open, Paid, Void};
        let now = DateTime::from_millis(0);
        for (states, expected) in [
            (vec![(Open, 100), (Paid, 100)], (100, 0, 100)),
            // Discounted at Stripe after the draft was counted.
            (vec![(Draft, 100), (Open, 80), (Paid, 80)], (80, 0, 80)),
            (vec![(Draft, 100), (Open, 80), (Void, 80)], (80, 80, 0)),
        ] {
            let mut sums = MonthTotals::new(Month::of(now), "DKK".to_owned());
            let mut before = None;
            for (status, subtotal_minor) in states {
                let after = invoice(status, subtotal_minor);
                sums.add(&MonthTotals::of_invoice(before.as_ref(), &after, now));
                before = Some(after);
            }

            let found = (sums.billed_minor, sums.voided_minor, sums.paid_minor);
            assert_eq!(found, expected);
            assert_eq!(sums.paid_by_plan.values().sum::<i64>(), expected.2);
        }
    }
}
