//! Invariants of the objects at Stripe, and of their mirrors.

use std::collections::{BTreeMap, HashSet};

use dezky_shared::{
    id::TenantId,
    invoice::{Invoice, InvoiceStatus},
    webhook_event::{EventState, WebhookEvent},
};
use serde_json::Value;

use super::records::BillingRecords;
use crate::chaos::check::Check;

/// Objects of the simulated Stripe that are not deleted.
#[derive(Debug)]
pub(super) struct StripeObjects<'a>(Vec<&'a Value>);

impl<'a> StripeObjects<'a> {
    /// The objects of the simulator's state.
    pub(super) fn of(state: &'a Value) -> Self {
        let objects = state["objects"].as_array().into_iter().flatten();
        Self(objects.filter(|it| it["deleted"] != true).collect())
    }

    fn of_kind(&self, kind: &'static str) -> impl Iterator<Item = &'a Value> {
        self.0
            .iter()
            .copied()
            .filter(move |it| it["object"] == kind)
    }

    fn find(&self, id: &str) -> Option<&'a Value> {
        self.0.iter().copied().find(|it| it["id"] == id)
    }

    /// Number of the credit notes, refunds and disputes of an invoice.
    fn count_reductions(&self, invoice: &str) -> usize {
        let payments = self.of_kind("invoice_payment");
        let payments = payments.filter(|it| it["invoice"] == invoice);
        let intents: Vec<&Value> = payments
            .map(|it| &it["payment"]["payment_intent"])
            .collect();
        let reversals = self.of_kind("refund").chain(self.of_kind("dispute"));
        let reversals = reversals.filter(|it| intents.contains(&&it["payment_intent"]));
        let notes = self.of_kind("credit_note");
        reversals.count() + notes.filter(|it| it["invoice"] == invoice).count()
    }
}

/// Each event that Stripe has sent, or that was read from its list, was processed.
pub(super) fn every_event_of_stripe_is_processed(events: &[WebhookEvent]) -> Check {
    let waiting = events
        .iter()
        .filter(|event| event.state == EventState::Received);
    let mut violations: Vec<String> = waiting
        .map(|event| format!("{} ({}) waits for its job", event.id, event.kind))
        .collect();
    if events.is_empty() {
        violations.push("no event was received".to_owned());
    }
    Check::new(
        "every event of Stripe is processed",
        events.len(),
        violations,
    )
}

/// A tenant has one customer, a customer one live subscription, an invoice of ours one invoice that was sent once, a price
/// one key, and a request one setup intent, of which `requested` are stored.
pub(super) fn nothing_exists_twice_at_stripe(
    objects: &StripeObjects<'_>,
    requested: usize,
) -> Check {
    let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut violations = Vec::new();
    for customer in objects.of_kind("customer") {
        if let Some(tenant) = customer["metadata"]["tenantId"].as_str() {
            *counts.entry(("customers of tenant", tenant)).or_default() += 1;
        }
    }
    let live = objects.of_kind("subscription");
    for subscription in live.filter(|it| !has_ended(it)) {
        let customer = subscription["customer"].as_str().unwrap_or_default();
        let subscriptions = counts.entry(("subscriptions of customer", customer));
        *subscriptions.or_default() += 1;
    }
    for price in objects.of_kind("price") {
        if let Some(key) = price["lookup_key"].as_str() {
            *counts.entry(("prices with the key", key)).or_default() += 1;
        }
    }
    let live = objects.of_kind("invoice");
    for invoice in live.filter(|it| it["status"] != "void") {
        let named = |name: &str| invoice["metadata"][name].as_str();
        if let Some(id) = named("invoiceId") {
            *counts.entry(("invoices for invoice", id)).or_default() += 1;
        }
        if let Some(key) = named("periodKey") {
            *counts.entry(("invoices for period", key)).or_default() += 1;
        }
    }
    let events = objects.of_kind("event");
    for event in events.filter(|it| it["type"] == "invoice.sent") {
        let id = event["data"]["object"]["id"].as_str().unwrap_or_default();
        *counts.entry(("e-mails about invoice", id)).or_default() += 1;
    }
    let checked = counts.len();
    let twice = counts.into_iter().filter(|(_, count)| *count > 1);
    violations.extend(twice.map(|((what, id), count)| format!("{count} {what} {id}")));
    let intents = objects.of_kind("setup_intent").count();
    if intents > requested {
        violations.push(format!("{intents} setup intents for {requested} requests"));
    }
    Check::new(
        "nothing exists twice at Stripe",
        checked + intents,
        violations,
    )
}

fn has_ended(subscription: &Value) -> bool {
    let status = subscription["status"].as_str().unwrap_or_default();
    ["canceled", "incomplete_expired"].contains(&status)
}

/// Accounts and invoices here are equal to those at Stripe, and each invoice that was issued there is known here.
pub(super) fn invoices_equal_those_of_stripe(
    objects: &StripeObjects<'_>,
    records: &BillingRecords,
) -> Check {
    let mut violations = Vec::new();
    for account in &records.accounts {
        let Some(id) = &account.stripe_customer_id else {
            continue;
        };
        let tenant = account.tenant_id.to_string();
        let customer = objects.find(id);
        if !customer.is_some_and(|it| it["metadata"]["tenantId"] == tenant) {
            violations.push(format!("customer {id} is not that of tenant {tenant}"));
        }
    }
    let sent = records.invoices.iter().filter(|it| it.stripe.is_some());
    let known: HashSet<&str> = sent.clone().map(Invoice::stripe_id).collect();
    violations.extend(sent.filter_map(|invoice| difference(objects, invoice)));
    let issued = objects.of_kind("invoice");
    for invoice in issued.filter(|it| it["status"] != "draft") {
        if !known.contains(invoice["id"].as_str().unwrap_or_default()) {
            violations.push(format!("{} is not mirrored", invoice["id"]));
        }
    }
    Check::new(
        "invoices and customers equal those of Stripe",
        records.accounts.len() + records.invoices.len(),
        violations,
    )
}

/// The difference between an invoice and that at Stripe, if there is one.
fn difference(objects: &StripeObjects<'_>, invoice: &Invoice) -> Option<String> {
    let id = invoice.stripe_id();
    let Some(there) = objects.find(id) else {
        // A draft that was voided is deleted.
        let is_void = invoice.status == InvoiceStatus::Void;
        return (!is_void).then(|| format!("{id} of {} is missing", invoice.id));
    };
    let is_draft = there["status"] == "draft";
    let lines = there["lines"]["data"].as_array().map_or(0, Vec::len);
    let is_equal = there["status"] == invoice.status.name()
        && (is_draft || there["total_excluding_tax"] == invoice.subtotal_minor)
        && (is_draft || there["number"].as_str() == invoice.number.as_deref())
        && (is_draft || lines == invoice.lines.len());
    if !is_equal {
        let status = invoice.status.name();
        let (net, number) = (invoice.subtotal_minor, &invoice.number);
        return Some(format!(
            "{id}: {status}, {net} net, {number:?}; at Stripe {}, {}, {}, {lines} lines",
            there["status"], there["total_excluding_tax"], there["number"]
        ));
    }
    let known = invoice.stripe.as_ref().map_or(0, |it| it.reductions.len());
    let made = objects.count_reductions(id);
    let is_paid = invoice.status == InvoiceStatus::Paid;
    (is_paid && known != made).then(|| format!("{id}: {known} of {made} reductions"))
}

/// A tenant that is not billed has no customer at Stripe. `billed` are those of a partner.
pub(super) fn no_tenant_without_billing_is_at_stripe(
    objects: &StripeObjects<'_>,
    billed: &HashSet<TenantId>,
) -> Check {
    let customers: Vec<&Value> = objects.of_kind("customer").collect();
    let is_billed = |customer: &&&Value| {
        let tenant = customer["metadata"]["tenantId"].as_str();
        let tenant = tenant.and_then(|id| id.parse::<TenantId>().ok());
        tenant.is_some_and(|id| billed.contains(&id))
    };
    let others = customers.iter().filter(|it| !is_billed(it));
    let violations = others.map(|it| format!("{} of {}", it["id"], it["metadata"]["tenantId"]));
    Check::new(
        "no tenant without billing is at Stripe",
        customers.len(),
        violations.collect(),
    )
}

#[cfg(test)]
mod tests {
    use dezky_shared::invoice::StripeInvoice;
    use serde_json::json;

    use super::*;
    use crate::chaos::billing::invoice_checks::tests::invoice;

    fn customer(id: &str, tenant: &str) -> Value {
        json!({ "id": id, "object": "customer", "metadata": { "tenantId": tenant } })
    }

    fn sent_invoice(id: &str, status: &str) -> Value {
        json!({
            "id": id, "object": "invoice", "status": status, "total_excluding_tax": 100, "number": null,
            "lines": { "data": [] }, "metadata": { "invoiceId": "1", "periodKey": "1/cycle/1" },
        })
    }

    #[test]
    fn objects_that_exist_twice_are_found() {
        let sent = |id: &str| {
            let invoice = json!({ "object": { "id": "in_1" } });
            json!({ "id": id, "object": "event", "type": "invoice.sent", "data": invoice })
        };
        let found = |objects: Vec<Value>| {
            let state = json!({ "objects": objects });
            let check = nothing_exists_twice_at_stripe(&StripeObjects::of(&state), 0);
            check.violations.len()
        };

        let open = sent_invoice("in_1", "open");
        let one = vec![customer("cus_1", "1"), open.clone(), sent("evt_1")];
        assert_eq!(found(one), 0);
        assert_eq!(
            found(vec![customer("cus_1", "1"), customer("cus_2", "1")]),
            1
        );
        assert_eq!(found(vec![sent("evt_1"), sent("evt_2")]), 1);
        let subscription = |status: &str| json!({ "object": "subscription", "customer": "cus_1", "status": status });
        let ended = vec![subscription("canceled"), subscription("active")];
        assert_eq!(found(ended), 0);
        let both = vec![subscription("past_due"), subscription("active")];
        assert_eq!(found(both), 1);
        assert_eq!(found(vec![sent_invoice("in_2", "void"), open.clone()]), 0);
        // For one invoice of ours, and for one period.
        assert_eq!(found(vec![sent_invoice("in_2", "draft"), open]), 2);
        assert_eq!(
            found(vec![json!({ "id": "seti_1", "object": "setup_intent" })]),
            1
        );
    }

    #[test]
    fn an_invoice_that_differs_from_that_of_stripe_is_found() {
        let ours = |status: InvoiceStatus| Invoice {
            stripe: Some(StripeInvoice {
                id: "in_1".to_owned(),
                total_minor: 100,
                amount_remaining_minor: 100,
                hosted_url: None,
                pdf_url: None,
                reductions: Vec::new(),
            }),
            ..invoice(status, 100)
        };
        let is_different = |status, objects: Vec<Value>| {
            let state = json!({ "objects": objects });
            difference(&StripeObjects::of(&state), &ours(status)).is_some()
        };
        let there = |status: &str| vec![sent_invoice("in_1", status)];

        assert!(!is_different(InvoiceStatus::Open, there("open")));
        assert!(is_different(InvoiceStatus::Open, there("paid")));
        assert!(is_different(InvoiceStatus::Open, Vec::new()));
        assert!(!is_different(InvoiceStatus::Void, Vec::new()));
        let mut credited = there("paid");
        credited.push(json!({ "id": "cn_1", "object": "credit_note", "invoice": "in_1" }));
        assert!(is_different(InvoiceStatus::Paid, credited));
    }

    #[test]
    fn a_customer_of_a_tenant_that_is_not_billed_is_found() {
        let billed = TenantId::new();
        let other = TenantId::new().to_string();
        let customers = [
            customer("cus_1", &billed.to_string()),
            customer("cus_2", &other),
        ];
        let state = json!({ "objects": customers });
        let billed = HashSet::from([billed]);

        let check = no_tenant_without_billing_is_at_stripe(&StripeObjects::of(&state), &billed);

        assert_eq!(check.violations.len(), 1);
    }
}
