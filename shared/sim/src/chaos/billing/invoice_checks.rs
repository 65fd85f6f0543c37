//! Invariants of subscriptions and their invoices.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dezky_shared::{
    billing::period::Period,
    id::{SubscriptionId, TenantId},
    invoice::{Invoice, InvoiceStatus},
    subscription::Subscription,
};

use crate::chaos::check::Check;

/// A tenant has at most one live subscription.
pub(super) fn no_tenant_has_two_live_subscriptions(subscriptions: &[Subscription]) -> Check {
    let mut live: BTreeMap<TenantId, usize> = BTreeMap::new();
    for subscription in subscriptions.iter().filter(|it| it.status.is_live()) {
        *live.entry(subscription.tenant_id).or_default() += 1;
    }
    let several = live.iter().filter(|(_, count)| **count > 1);
    let violations = several.map(|(tenant, count)| format!("tenant {tenant} has {count}"));
    Check::new(
        "no tenant has two live subscriptions",
        subscriptions.len(),
        violations.collect(),
    )
}

/// Each period of a subscription has one invoice, and the periods have no gap. A void invoice frees the key of its period,
/// which is not invoiced again by itself. Once Stripe bills a subscription, its periods are those of Stripe, which begins a
/// new one when the cycle changes.
pub(super) fn no_period_is_invoiced_twice(
    subscriptions: &[Subscription],
    invoices: &[Invoice],
) -> Check {
    let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
    let mut periods: HashMap<SubscriptionId, Vec<Period>> = HashMap::new();
    let mut violations = Vec::new();
    for invoice in invoices {
        if let Some(key) = invoice.period_key.as_deref() {
            *keys.entry(key).or_default() += 1;
            if invoice.status == InvoiceStatus::Void {
                violations.push(format!("{}: void, with the key {key}", invoice.id));
            }
        }
        if let (Some(id), Some(period)) = (invoice.subscription_id, invoice.period) {
            periods.entry(id).or_default().push(period);
            let is_live = is_of_run(invoice) && invoice.status != InvoiceStatus::Void;
            if is_live && invoice.period_key.is_none() {
                violations.push(format!("{}: without the key of its period", invoice.id));
            }
        }
    }
    let twice = keys.iter().filter(|(_, count)| **count > 1);
    violations.extend(twice.map(|(key, count)| format!("{key}: {count} invoices")));
    let by_run = subscriptions
        .iter()
        .filter(|it| it.biller.is_run() && it.stripe_subscription_id.is_none());
    for subscription in by_run {
        let periods = periods.remove(&subscription.id).unwrap_or_default();
        violations.extend(broken_chain(subscription, periods));
    }
    Check::new(
        "no period is invoiced twice or left out",
        invoices.len(),
        violations,
    )
}

/// Whether the invoice run issued it, or had Stripe issue it.
fn is_of_run(invoice: &Invoice) -> bool {
    invoice.sent_by_stripe || invoice.stripe.is_none()
}

/// The invoiced periods of a subscription, if they do not follow on one another until the last one.
fn broken_chain(subscription: &Subscription, mut periods: Vec<Period>) -> Option<String> {
    periods.sort_by_key(|period| period.start);
    let follows = |pair: &[Period]| pair[0].end == pair[1].start;
    let last = periods.last()?;
    let is_whole = periods.windows(2).all(follows)
        && periods.iter().all(|period| period.start < period.end)
        && subscription.invoiced_through == Some(last.end);
    (!is_whole).then(|| {
        format!(
            "subscription {} is invoiced for {periods:?}, and through {:?}",
            subscription.id, subscription.invoiced_through
        )
    })
}

/// Our numbers are consecutive for each legal entity and year, and no number is used twice.
pub(super) fn invoice_numbers_have_no_gap(invoices: &[Invoice]) -> Check {
    let mut numbers: BTreeSet<&str> = BTreeSet::new();
    let mut series: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    let mut violations = Vec::new();
    for invoice in invoices {
        let Some(number) = invoice.number.as_deref() else {
            if invoice.is_numbered() && invoice.stripe.is_none() {
                violations.push(format!("{} has no number", invoice.id));
            }
            continue;
        };
        if !numbers.insert(number) {
            violations.push(format!("{number} is used twice"));
        }
        if invoice.sent_by_stripe || invoice.stripe.is_some() {
            continue;
        }
        let parts = number.rsplit_once('-');
        let parts = parts.and_then(|(name, text)| Some((name, text.parse::<u64>().ok()?)));
        match parts {
            Some((name, position)) => {
                series.entry(name).or_default().insert(position);
            }
            None => violations.push(format!("{number} is malformed")),
        }
    }
    for (name, positions) in series {
        let count = positions.len() as u64;
        if positions.first() != Some(&1) || positions.last() != Some(&count) {
            violations.push(format!("{name} has a gap among {count} numbers"));
        }
    }
    Check::new("invoice numbers have no gap", numbers.len(), violations)
}

#[cfg(test)]
pub(super) mod tests {
    use bson::{DateTime, deserialize_from_document, doc};
    use dezky_shared::{
        billing::{Cycle, Plan},
        id::{InvoiceId, PartnerId},
        subscription::{EndedBy, NewTerms},
    };

    use super::*;

    fn tenant() -> TenantId {
        TenantId::from_bytes([2; 16])
    }

    /// Partner of every invoice.
    pub(in crate::chaos::billing) fn partner() -> PartnerId {
        PartnerId::from_bytes([3; 16])
    }

    /// An invoice with a margin of 20 %.
    pub(in crate::chaos::billing) fn invoice(
        status: InvoiceStatus,
        subtotal_minor: i64,
    ) -> Invoice {
        let now = DateTime::from_millis(0);
        deserialize_from_document(doc! {
            "_id": InvoiceId::new(), "tenantId": tenant(), "partnerId": partner(), "marginBasisPoints": 2_000,
            "kind": "cycle", "status": status.name(), "billTo": {}, "currency": "DKK", "lines": [],
            "subtotalMinor": subtotal_minor, "taxNote": "net", "issuedAt": now, "isOverdue": false, "revision": 1_i64,
            "createdAt": now, "updatedAt": now,
        })
        .unwrap()
    }

    fn subscription() -> Subscription {
        let terms = NewTerms {
            plan: Plan::Business,
            cycle: Cycle::Monthly,
            seats: 1,
            currency: "DKK".to_owned(),
            price_minor: 100,
        };
        Subscription::new(tenant(), terms, DateTime::from_millis(0))
    }

    /// An invoice of the subscription for these days.
    fn of_days(subscription: &Subscription, start: i64, end: i64) -> Invoice {
        let day = |number: i64| DateTime::from_millis(number * 86_400_000);
        let period = Period {
            start: day(start),
            end: day(end),
        };
        Invoice {
            subscription_id: Some(subscription.id),
            period: Some(period),
            period_key: Some(Invoice::period_key(tenant(), period)),
            ..invoice(InvoiceStatus::Open, 100)
        }
    }

    #[test]
    fn two_live_subscriptions_of_a_tenant_are_found() {
        let mut ended = subscription();
        ended.end(DateTime::from_millis(1), EndedBy::Operator);
        let live = subscription();
        let found = |all: &[Subscription]| {
            let check = no_tenant_has_two_live_subscriptions(all);
            check.violations.len()
        };

        assert_eq!(found(&[ended.clone(), live.clone()]), 0);
        assert_eq!(found(&[ended, live.clone(), live]), 1);
    }

    #[test]
    fn a_period_that_is_invoiced_twice_or_left_out_is_found() {
        let mut sold = subscription();
        sold.invoiced_through = Some(DateTime::from_millis(60 * 86_400_000));
        let found = |days: &[(i64, i64)]| {
            let invoices: Vec<Invoice> = days
                .iter()
                .map(|(start, end)| of_days(&sold, *start, *end))
                .collect();
            let check = no_period_is_invoiced_twice(std::slice::from_ref(&sold), &invoices);
            !check.violations.is_empty()
        };

        assert!(!found(&[]));
        assert!(!found(&[(30, 60), (0, 30)]));
        assert!(found(&[(0, 30), (30, 60), (30, 60)]), "twice");
        assert!(found(&[(0, 30), (31, 60)]), "left out");
        assert!(found(&[(0, 30), (20, 60)]), "overlapping");
        assert!(found(&[(0, 30)]), "the last one is missing");
    }

    #[test]
    fn a_void_invoice_keeps_its_place_but_not_its_key() {
        let mut sold = subscription();
        sold.invoiced_through = Some(DateTime::from_millis(30 * 86_400_000));
        let mut void = of_days(&sold, 0, 30);
        void.void(DateTime::from_millis(1), "Mistake");
        let found = |invoice: &Invoice| {
            let sold = std::slice::from_ref(&sold);
            let check = no_period_is_invoiced_twice(sold, std::slice::from_ref(invoice));
            check.violations.len()
        };

        assert_eq!(found(&void), 0);
        void.period_key = Some("key".to_owned());
        assert_eq!(found(&void), 1);
    }

    #[test]
    fn a_number_that_is_missing_or_used_twice_is_found() {
        let found = |numbers: &[&str]| {
            let numbered = |number: &&str| Invoice {
                number: Some((*number).to_owned()),
                ..invoice(InvoiceStatus::Open, 100)
            };
            let invoices: Vec<Invoice> = numbers.iter().map(numbered).collect();
            invoice_numbers_have_no_gap(&invoices).violations.len()
        };

        assert_eq!(found(&["DEZKY-2026-000002", "DEZKY-2026-000001"]), 0);
        assert_eq!(found(&["DEZKY-2026-000001", "DEZKY-2027-000001"]), 0);
        assert_eq!(found(&["DEZKY-2026-000001", "DEZKY-2026-000003"]), 1);
        assert_eq!(found(&["DEZKY-2026-000002"]), 1);
        assert_eq!(found(&["DEZKY-2026-000001", "DEZKY-2026-000001"]), 1);
        let unnumbered = invoice(InvoiceStatus::Open, 100);
        let check = invoice_numbers_have_no_gap(&[unnumbered]);
        assert_eq!(check.violations.len(), 1);
    }
}
