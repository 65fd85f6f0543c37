//! Billing in a chaos run: operators sell to tenants of two partners, invoice them, settle what they owe, and pay the
//! partners out. Persons enter cards and pay at Stripe, whose webhooks are repeated, reordered and lost.
//!
//! A run does not last a month: sales begin in the past, and the partners have balances of months that are over.

mod invoice_checks;
mod ledger_checks;
mod operators;
mod persons;
mod records;
mod requests;
mod stripe_checks;

use std::collections::HashSet;

use dezky_shared::id::TenantId;
use serde_json::Value;

use self::{
    invoice_checks::{
        invoice_numbers_have_no_gap, no_period_is_invoiced_twice,
        no_tenant_has_two_live_subscriptions,
    },
    ledger_checks::{
        balances_equal_the_entries, each_payout_settles_its_entries,
        each_share_is_the_cut_of_its_invoice, totals_equal_invoices_and_entries,
    },
    stripe_checks::{
        StripeObjects, every_event_of_stripe_is_processed, invoices_equal_those_of_stripe,
        no_tenant_without_billing_is_at_stripe, nothing_exists_twice_at_stripe,
    },
};
pub(super) use self::{
    operators::Billing, persons::live_at_stripe, records::BillingRecords,
    requests::takes_effect_at_once,
};
use super::{check::Check, stored::Stored};

/// Number of operators of billing.
pub(super) const OPERATORS: u64 = 2;

/// Problem codes of requests that come too late, too early or twice.
pub(super) const DOCUMENTED_CODES: [&str; 11] = [
    "subscription_exists",
    "subscription_cancelled",
    "no_subscription",
    "billing_off",
    "periods_differ",
    "invoice_not_open",
    "invoice_not_paid",
    "billed_by_stripe",
    "payout_exists",
    "nothing_to_pay",
    "payout_not_pending",
];

/// Checks every promise about billing on the final state. `stripe` is the state of the simulator.
pub(super) fn check_all(records: &BillingRecords, stored: &Stored, stripe: &Value) -> Vec<Check> {
    let objects = StripeObjects::of(stripe);
    let is_billed = stored
        .tenants
        .iter()
        .filter(|tenant| tenant.partner_id.is_some());
    let billed: HashSet<TenantId> = is_billed.map(|tenant| tenant.id).collect();
    vec![
        no_tenant_has_two_live_subscriptions(&records.subscriptions),
        no_period_is_invoiced_twice(&records.subscriptions, &records.invoices),
        invoice_numbers_have_no_gap(&records.invoices),
        each_share_is_the_cut_of_its_invoice(&records.invoices, &records.entries),
        balances_equal_the_entries(&records.entries, &records.payouts, &records.balances),
        each_payout_settles_its_entries(&records.entries, &records.payouts),
        totals_equal_invoices_and_entries(&records.invoices, &records.entries, &records.totals),
        every_event_of_stripe_is_processed(&records.events),
        nothing_exists_twice_at_stripe(&objects, records.setup_intents.len()),
        invoices_equal_those_of_stripe(&objects, records),
        no_tenant_without_billing_is_at_stripe(&objects, &billed),
    ]
}

/// Whether a person settles an invoice that Stripe sent; an operator settles the others, so that none is paid at Stripe
/// while it is voided here.
fn is_settled_by_a_person(invoice_id: &str) -> bool {
    let last = invoice_id.bytes().last();
    last.is_some_and(|last| last % 2 == 1)
}
