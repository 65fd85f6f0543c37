//! Table of routes.

use super::{idempotency::Answer, params::Params, state::State};

/// Operation that calculates the next invoice of a subscription.
pub(super) const PREVIEW: &str = "preview_invoice";

pub(super) type Handler = fn(&mut State, &[&str], &mut Params) -> Answer;

/// Method, path below `/v1/` with `*` for an id, name of the operation, handler.
const ROUTES: [(&str, &str, &str, Handler); 46] = [
    (
        "POST",
        "customers",
        "create_customer",
        State::create_customer,
    ),
    ("GET", "customers", "list_customers", State::list_customers),
    (
        "GET",
        "customers/*",
        "retrieve_customer",
        State::retrieve_customer,
    ),
    (
        "POST",
        "customers/*",
        "update_customer",
        State::update_customer,
    ),
    (
        "DELETE",
        "customers/*",
        "delete_customer",
        State::delete_customer,
    ),
    (
        "POST",
        "customers/*/tax_ids",
        "create_tax_id",
        State::create_tax_id,
    ),
    (
        "GET",
        "customers/*/tax_ids",
        "list_tax_ids",
        State::list_tax_ids,
    ),
    (
        "GET",
        "customers/*/tax_ids/*",
        "retrieve_tax_id",
        State::retrieve_tax_id,
    ),
    (
        "DELETE",
        "customers/*/tax_ids/*",
        "delete_tax_id",
        State::delete_tax_id,
    ),
    (
        "GET",
        "customers/*/payment_methods",
        "list_payment_methods",
        State::list_customer_payment_methods,
    ),
    (
        "POST",
        "setup_intents",
        "create_setup_intent",
        State::create_setup_intent,
    ),
    (
        "GET",
        "setup_intents",
        "list_setup_intents",
        State::list_setup_intents,
    ),
    (
        "GET",
        "setup_intents/*",
        "retrieve_setup_intent",
        State::retrieve_setup_intent,
    ),
    (
        "POST",
        "setup_intents/*/confirm",
        "confirm_setup_intent",
        State::confirm_setup_intent,
    ),
    (
        "POST",
        "setup_intents/*/cancel",
        "cancel_setup_intent",
        State::cancel_setup_intent,
    ),
    (
        "GET",
        "payment_methods",
        "list_payment_methods",
        State::list_payment_methods,
    ),
    (
        "GET",
        "payment_methods/*",
        "retrieve_payment_method",
        State::retrieve_payment_method,
    ),
    (
        "POST",
        "payment_methods/*/attach",
        "attach_payment_method",
        State::attach_payment_method,
    ),
    (
        "POST",
        "payment_methods/*/detach",
        "detach_payment_method",
        State::detach_payment_method,
    ),
    ("POST", "invoices", "create_invoice", State::create_invoice),
    ("GET", "invoices", "list_invoices", State::list_invoices),
    (
        "POST",
        "invoices/create_preview",
        PREVIEW,
        State::preview_invoice,
    ),
    (
        "DELETE",
        "invoices/*",
        "delete_invoice",
        State::delete_invoice,
    ),
    (
        "POST",
        "invoiceitems",
        "create_invoice_item",
        State::create_invoice_item,
    ),
    (
        "POST",
        "invoices/*/finalize",
        "finalize_invoice",
        State::finalize_invoice,
    ),
    (
        "POST",
        "invoices/*/send",
        "send_invoice",
        State::send_invoice,
    ),
    (
        "POST",
        "invoices/*/void",
        "void_invoice",
        State::void_invoice,
    ),
    ("POST", "invoices/*/pay", "pay_invoice", State::pay_invoice),
    (
        "GET",
        "invoices/*",
        "retrieve_invoice",
        State::retrieve_invoice,
    ),
    (
        "GET",
        "invoices/*/lines",
        "list_invoice_lines",
        State::list_invoice_lines,
    ),
    (
        "GET",
        "invoice_payments",
        "list_invoice_payments",
        State::list_invoice_payments,
    ),
    (
        "GET",
        "credit_notes",
        "list_credit_notes",
        State::list_credit_notes,
    ),
    ("GET", "refunds", "list_refunds", State::list_refunds),
    ("GET", "disputes", "list_disputes", State::list_disputes),
    ("GET", "events", "list_events", State::list_events),
    ("GET", "events/*", "retrieve_event", State::retrieve_event),
    ("POST", "products", "create_product", State::create_product),
    (
        "GET",
        "products/*",
        "retrieve_product",
        State::retrieve_product,
    ),
    ("POST", "prices", "create_price", State::create_price),
    ("GET", "prices", "list_prices", State::list_prices),
    (
        "POST",
        "subscriptions",
        "create_subscription",
        State::create_subscription,
    ),
    (
        "GET",
        "subscriptions",
        "list_subscriptions",
        State::list_subscriptions,
    ),
    (
        "GET",
        "subscriptions/*",
        "retrieve_subscription",
        State::retrieve_subscription,
    ),
    (
        "POST",
        "subscriptions/*",
        "update_subscription",
        State::update_subscription,
    ),
    (
        "DELETE",
        "subscriptions/*",
        "cancel_subscription",
        State::cancel_subscription,
    ),
    (
        "GET",
        "payment_intents/*",
        "retrieve_payment_intent",
        State::retrieve_payment_intent,
    ),
];

/// Operation, handler and ids of a request.
pub(super) fn find<'p>(
    method: &str,
    path: &'p str,
) -> Option<(&'static str, Handler, Vec<&'p str>)> {
    let path = path.strip_prefix("/v1/")?;
    ROUTES.iter().find_map(|(of, pattern, operation, handler)| {
        let ids = matched(pattern, path)?;
        (*of == method).then_some((*operation, *handler, ids))
    })
}

/// The segments at the stars of `pattern`, if `path` matches it.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut ids = Vec::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        match expected {
            "*" => ids.push(segment),
            _ if expected == segment => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(ids)
}
