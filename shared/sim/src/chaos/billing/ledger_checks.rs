//! Invariants of money: shares, balances, payouts and totals equal the documents that they are derived from.

use std::collections::{BTreeMap, HashMap, HashSet};

use dezky_shared::{
    billing::month::Month,
    billing_totals::{MonthTotals, Scope},
    id::{InvoiceId, PartnerId, PayoutId},
    invoice::Invoice,
    ledger::{EntryKind, LedgerEntry, PartnerBalance, Payout, PayoutStatus},
    money::partner_cut,
    platform::clock,
};

use super::records::ScopedTotals;
use crate::chaos::check::Check;

/// The entries of an invoice sum to the partner's cut of its net amount, and are numbered without a gap.
pub(super) fn each_share_is_the_cut_of_its_invoice(
    invoices: &[Invoice],
    entries: &[LedgerEntry],
) -> Check {
    let mut by_invoice: HashMap<InvoiceId, Vec<&LedgerEntry>> = HashMap::new();
    for entry in entries {
        if let Some(id) = entry.invoice_id {
            by_invoice.entry(id).or_default().push(entry);
        }
    }
    let mut violations = Vec::new();
    for invoice in invoices {
        let mut entries = by_invoice.remove(&invoice.id).unwrap_or_default();
        entries.sort_by_key(|entry| entry.sequence);
        let sum: i64 = entries.iter().map(|entry| entry.amount_minor).sum();
        let cut = match invoice.partner_id {
            Some(_) => partner_cut(invoice.share_base_minor(), invoice.margin_basis_points),
            None => 0,
        };
        let is_numbered = (1..).zip(&entries).all(|(n, it)| it.sequence == Some(n));
        let is_theirs = entries
            .iter()
            .all(|it| Some(it.partner_id) == invoice.partner_id);
        if sum != cut || !is_numbered || !is_theirs {
            violations.push(format!(
                "{} ({}): the share is {cut}, and its entries are {entries:?}",
                invoice.id,
                invoice.status.name()
            ));
        }
    }
    violations.extend(by_invoice.keys().map(|id| format!("{id} is unknown")));
    Check::new(
        "each share is the cut of its invoice",
        entries.len(),
        violations,
    )
}

/// Partner and currency.
type Account = (PartnerId, String);

/// The balances of a partner are the sums of its entries and payouts.
pub(super) fn balances_equal_the_entries(
    entries: &[LedgerEntry],
    payouts: &[Payout],
    balances: &[PartnerBalance],
) -> Check {
    let mut expected: BTreeMap<Account, [i64; 6]> = BTreeMap::new();
    let settled = payouts_in_force(payouts);
    for entry in entries {
        let account = (entry.partner_id, entry.currency.clone());
        let sums = expected.entry(account).or_default();
        match entry.kind {
            EntryKind::Accrual => sums[0] += entry.amount_minor,
            EntryKind::Reversal => sums[1] -= entry.amount_minor,
            EntryKind::Adjustment => sums[2] += entry.amount_minor,
        }
        if entry.payout_id.is_none_or(|id| !settled.contains(&id)) {
            sums[3] += entry.amount_minor;
        }
    }
    for payout in payouts {
        let account = (payout.partner_id, payout.currency.clone());
        let sums = expected.entry(account).or_default();
        match payout.status {
            PayoutStatus::Pending => sums[4] += payout.amount_minor,
            PayoutStatus::Paid => sums[5] += payout.amount_minor,
            PayoutStatus::Cancelled => {}
        }
    }
    let mut violations = Vec::new();
    for balance in balances {
        let account = (balance.partner_id, balance.currency.clone());
        let expected = expected.remove(&account).unwrap_or_default();
        let stored = [
            balance.accrued_minor,
            balance.reversed_minor,
            balance.adjusted_minor,
            balance.unsettled_minor,
            balance.pending_minor,
            balance.paid_out_minor,
        ];
        if stored != expected {
            violations.push(format!("{}: {stored:?}, not {expected:?}", balance.id));
        }
    }
    let missing = expected.keys().map(|(partner, currency)| {
        format!("{partner} has entries in {currency}, and no balance of them")
    });
    violations.extend(missing);
    Check::new(
        "balances equal entries and payouts",
        entries.len(),
        violations,
    )
}

/// A payout that is not cancelled settles its entries: their sum and their number are its own. No other entry is marked.
pub(super) fn each_payout_settles_its_entries(
    entries: &[LedgerEntry],
    payouts: &[Payout],
) -> Check {
    let mut marked: BTreeMap<PayoutId, (i64, i64)> = BTreeMap::new();
    for entry in entries {
        if let Some(id) = entry.payout_id {
            let sums = marked.entry(id).or_default();
            *sums = (sums.0 + entry.amount_minor, sums.1 + 1);
        }
    }
    let mut violations = Vec::new();
    for payout in payouts {
        let found = marked.remove(&payout.id).unwrap_or_default();
        let expected = match payout.status {
            PayoutStatus::Cancelled => (0, 0),
            PayoutStatus::Pending | PayoutStatus::Paid => (payout.amount_minor, payout.entry_count),
        };
        if found != expected {
            violations.push(format!("{payout:?}: its entries are {found:?}"));
        }
    }
    let lost = marked.keys();
    violations.extend(lost.map(|id| format!("entries are marked by {id}, which does not exist")));
    Check::new("each payout settles its entries", payouts.len(), violations)
}

fn payouts_in_force(payouts: &[Payout]) -> HashSet<PayoutId> {
    let in_force = payouts
        .iter()
        .filter(|payout| payout.status != PayoutStatus::Cancelled);
    in_force.map(|payout| payout.id).collect()
}

/// The monthly totals of all months sum to the invoices and the entries, for the platform and for each partner.
pub(super) fn totals_equal_invoices_and_entries(
    invoices: &[Invoice],
    entries: &[LedgerEntry],
    stored: &[ScopedTotals],
) -> Check {
    let mut expected = Sums::default();
    for invoice in invoices {
        let all = MonthTotals::of_invoice(None, invoice, clock::now());
        expected.add(Scope::Platform.to_string(), &all);
        if let Some(partner) = invoice.partner_id {
            expected.add(Scope::Partner(partner).to_string(), &all);
        }
    }
    for entry in entries {
        let all = MonthTotals::of_entry(entry);
        expected.add(Scope::Platform.to_string(), &all);
        expected.add(Scope::Partner(entry.partner_id).to_string(), &all);
    }
    let mut found = Sums::default();
    for totals in stored {
        found.add(totals.scope.clone(), &totals.totals);
    }
    let (expected, found) = (expected.not_empty(), found.not_empty());
    let mut violations = Vec::new();
    for (key, sums) in &expected {
        if found.get(key) != Some(sums) {
            violations.push(format!("{key:?}: {:?}, not {sums:?}", found.get(key)));
        }
    }
    let unknown = found.keys().filter(|key| !expected.contains_key(key));
    violations.extend(unknown.map(|key| format!("{key:?} has totals of nothing")));
    Check::new(
        "totals equal invoices and entries",
        invoices.len() + entries.len(),
        violations,
    )
}

/// Scope and currency.
type TotalsKey = (String, String);

/// Totals of all months, by scope and currency.
#[derive(Debug, Default)]
struct Sums(BTreeMap<TotalsKey, MonthTotals>);

impl Sums {
    fn add(&mut self, scope: String, totals: &MonthTotals) {
        let key = (scope, totals.currency.clone());
        let empty = || nothing(&totals.currency);
        self.0.entry(key).or_insert_with(empty).add(totals);
    }

    /// Without the sums of nothing, which are not stored.
    fn not_empty(mut self) -> BTreeMap<TotalsKey, MonthTotals> {
        for totals in self.0.values_mut() {
            totals.paid_by_plan.retain(|_, amount| *amount != 0);
        }
        self.0
            .retain(|(_, currency), totals| *totals != nothing(currency));
        self.0
    }
}

/// Totals of nothing in a currency. All sums have one month, so that they can be compared.
fn nothing(currency: &str) -> MonthTotals {
    let month = Month::of(bson::DateTime::from_millis(0));
    MonthTotals::new(month, currency.to_owned())
}

#[cfg(test)]
mod tests {
    use dezky_shared::{id::LedgerEntryId, invoice::InvoiceStatus};

    use super::*;
    use crate::chaos::billing::invoice_checks::tests::{invoice, partner};

    fn payout_id() -> PayoutId {
        PayoutId::from_bytes([4; 16])
    }

    fn entry(invoice: Option<InvoiceId>, amount_minor: i64) -> LedgerEntry {
        let now = clock::now();
        LedgerEntry {
            id: LedgerEntryId::new(),
            partner_id: partner(),
            kind: if invoice.is_some() {
                EntryKind::Accrual
            } else {
                EntryKind::Adjustment
            },
            currency: "DKK".to_owned(),
            amount_minor,
            tenant_id: None,
            invoice_id: invoice,
            sequence: invoice.map(|_| 1),
            base_minor: None,
            margin_basis_points: None,
            reason: None,
            occurred_at: now,
            recorded_at: now,
            payout_id: None,
        }
    }

    fn payout(amount_minor: i64, status: PayoutStatus) -> Payout {
        let now = clock::now();
        Payout {
            id: payout_id(),
            partner_id: partner(),
            currency: "DKK".to_owned(),
            month: Month::of(now),
            amount_minor,
            entry_count: 1,
            status,
            paid_at: None,
            reference: None,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    #[test]
    fn a_share_that_is_not_the_cut_is_found() {
        let paid = invoice(InvoiceStatus::Paid, 9_999);
        let open = invoice(InvoiceStatus::Open, 9_999);
        let found = |entries: &[LedgerEntry]| {
            let invoices = [paid.clone(), open.clone()];
            let check = each_share_is_the_cut_of_its_invoice(&invoices, entries);
            check.violations.len()
        };

        let right = entry(Some(paid.id), 2_000);
        assert_eq!(found(std::slice::from_ref(&right)), 0);
        assert_eq!(found(&[]), 1);
        assert_eq!(found(&[right.clone(), right.clone()]), 1);
        assert_eq!(found(&[right.clone(), entry(Some(open.id), 2_000)]), 1);
        assert_eq!(found(&[right, entry(Some(InvoiceId::new()), 1)]), 1);
    }

    #[test]
    fn a_balance_that_is_not_the_sum_of_its_entries_is_found() {
        let settled = LedgerEntry {
            payout_id: Some(payout_id()),
            ..entry(None, 100)
        };
        let entries = [settled, entry(Some(InvoiceId::new()), 20)];
        let payouts = [payout(100, PayoutStatus::Paid)];
        let right = PartnerBalance {
            id: PartnerBalance::id(partner(), "DKK"),
            partner_id: partner(),
            currency: "DKK".to_owned(),
            accrued_minor: 20,
            reversed_minor: 0,
            adjusted_minor: 100,
            unsettled_minor: 20,
            pending_minor: 0,
            paid_out_minor: 100,
        };
        let found = |balances: &[PartnerBalance]| {
            let check = balances_equal_the_entries(&entries, &payouts, balances);
            check.violations.len()
        };

        let wrong = PartnerBalance {
            unsettled_minor: 120,
            ..right.clone()
        };
        assert_eq!(found(&[right]), 0);
        assert_eq!(found(&[wrong]), 1);
        assert_eq!(found(&[]), 1);
    }

    #[test]
    fn entries_that_no_payout_settles_are_found() {
        let marked = LedgerEntry {
            payout_id: Some(payout_id()),
            ..entry(None, 100)
        };
        let found = |payouts: &[Payout]| {
            let check = each_payout_settles_its_entries(std::slice::from_ref(&marked), payouts);
            check.violations.len()
        };

        assert_eq!(found(&[payout(100, PayoutStatus::Pending)]), 0);
        assert_eq!(found(&[payout(99, PayoutStatus::Pending)]), 1);
        assert_eq!(found(&[payout(100, PayoutStatus::Cancelled)]), 1);
        assert_eq!(found(&[]), 1);
    }

    #[test]
    fn totals_of_any_months_are_compared_with_the_documents() {
        let invoices = [
            invoice(InvoiceStatus::Paid, 100),
            invoice(InvoiceStatus::Void, 50),
        ];
        let entries = [entry(Some(invoices[0].id), 20)];
        let totals = |scope: Scope, paid_minor: i64| {
            let mut totals = nothing("DKK");
            totals.billed_minor = 150;
            totals.voided_minor = 50;
            totals.paid_minor = paid_minor;
            totals.accrued_minor = 20;
            totals.paid_by_plan = BTreeMap::from([("other".to_owned(), paid_minor)]);
            ScopedTotals {
                scope: scope.to_string(),
                totals,
            }
        };
        let found = |stored: &[ScopedTotals]| {
            let check = totals_equal_invoices_and_entries(&invoices, &entries, stored);
            check.violations.len()
        };

        let of_partner = || totals(Scope::Partner(partner()), 100);
        assert_eq!(found(&[totals(Scope::Platform, 100), of_partner()]), 0);
        assert_eq!(found(&[totals(Scope::Platform, 99), of_partner()]), 1);
        assert_eq!(found(&[of_partner()]), 1);
    }
}
