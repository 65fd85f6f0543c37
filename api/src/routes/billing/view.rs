//! Representation of a tenant's billing.

use std::collections::BTreeMap;

use bson::DateTime;
use dezky_shared::{
    billing_account::{BillingAccount, DefaultCard},
    invoice::Invoice,
    invoicing::{Enrolment, Next},
    money,
    subscription::Subscription,
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{routes::subscriptions::SubscriptionView, timestamp::Timestamp};

/// Billing of a tenant.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantBilling)]
pub(super) struct BillingView {
    /// Whether the tenant is invoiced here (flag `new_billing_engine`).
    enabled: bool,
    /// Total of the open invoices, in minor units by currency. Empty without open invoices.
    #[schema(example = json!({ "DKK": 49_900 }))]
    balance_due: BTreeMap<String, i64>,
    /// Total of the overdue invoices, in minor units by currency.
    #[schema(example = json!({ "DKK": 0 }))]
    balance_overdue: BTreeMap<String, i64>,
    /// Live subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<SubscriptionView>,
    /// Next invoice, if nothing changes. Missing if there is none to come, or if invoices are held.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_invoice: Option<NextInvoiceView>,
    /// Invoices that wait for an operator.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<HeldView>,
    /// State of the customer at the payment provider.
    customer: CustomerState,
    /// Card that invoices are charged to.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_card: Option<CardView>,
    /// Time of the data.
    as_of: Timestamp,
}

/// State of the customer at the payment provider.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CustomerState {
    /// There is none, or no payment provider.
    None,
    /// It exists.
    Ready,
}

/// Card as it may be shown.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PaymentCard)]
pub(in crate::routes) struct CardView {
    /// Brand.
    #[schema(example = "visa")]
    brand: String,
    /// Last four digits.
    #[schema(example = "4242")]
    last4: String,
    /// Month of expiry.
    #[schema(minimum = 1, maximum = 12)]
    exp_month: i32,
    /// Year of expiry.
    exp_year: i32,
}

impl From<DefaultCard> for CardView {
    fn from(card: DefaultCard) -> Self {
        Self {
            brand: card.brand,
            last4: card.last4,
            exp_month: card.exp_month,
            exp_year: card.exp_year,
        }
    }
}

/// Next invoice of a subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = NextInvoice)]
struct NextInvoiceView {
    /// Time of issue: the start of its period.
    at: Timestamp,
    /// End of its period.
    period_end: Timestamp,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Number of decimal places of the minor unit.
    #[schema(minimum = 0, maximum = 3)]
    exponent: u8,
    /// Net amount, in minor units.
    #[schema(minimum = 0)]
    subtotal_minor: i64,
}

/// Invoices that wait for an operator, because more periods are due than are invoiced at once.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = HeldInvoices)]
struct HeldView {
    /// Number of due periods.
    #[schema(minimum = 3)]
    periods: usize,
    /// Start of the first of them.
    since: Timestamp,
}

impl BillingView {
    pub(super) fn new(
        tenant: &Tenant,
        subscription: Option<Subscription>,
        open: &[Invoice],
        enabled: bool,
        now: DateTime,
    ) -> Self {
        let (mut balance_due, mut balance_overdue) = (BTreeMap::new(), BTreeMap::new());
        for invoice in open {
            let currency = &invoice.currency;
            *balance_due.entry(currency.clone()).or_default() += invoice.remaining_minor();
            if invoice.due_at.is_some_and(|due_at| due_at <= now) {
                *balance_overdue.entry(currency.clone()).or_default() += invoice.remaining_minor();
            }
        }
        let mut next_invoice = None;
        let mut held = None;
        if let Some(subscription) = subscription.as_ref().filter(|_| enabled) {
            let mut enrolled = subscription.clone();
            enrolled.enrol(Enrolment::Existing, now);
            match enrolled.next(tenant.status, None, now) {
                Next::Hold { periods } => {
                    let since = enrolled.invoiced_through.map(Timestamp::from);
                    held = since.map(|since| HeldView { periods, since });
                }
                Next::End { .. } => {}
                Next::Invoice(_) | Next::Nothing => next_invoice = NextInvoiceView::of(&enrolled),
            }
        }
        Self {
            enabled,
            balance_due,
            balance_overdue,
            subscription: subscription.map(|found| SubscriptionView::new(found, Some(tenant))),
            next_invoice,
            held,
            customer: CustomerState::None,
            default_card: None,
            as_of: now.into(),
        }
    }

    /// With the customer and the card of the billing account.
    pub(super) fn with_account(mut self, account: Option<BillingAccount>) -> Self {
        if let Some(account) = account.filter(|account| account.stripe_customer_id.is_some()) {
            self.customer = CustomerState::Ready;
            self.default_card = account.default_card.map(CardView::from);
        }
        self
    }
}

impl NextInvoiceView {
    fn of(subscription: &Subscription) -> Option<Self> {
        if subscription.cancel_at_period_end {
            return None;
        }
        let through = subscription.invoiced_through?;
        let period = subscription.periods()?.starting_at(through)?;
        Some(Self {
            at: period.start.into(),
            period_end: period.end.into(),
            exponent: money::exponent(&subscription.currency),
            currency: subscription.currency.clone(),
            subtotal_minor: subscription.price_minor,
        })
    }
}
