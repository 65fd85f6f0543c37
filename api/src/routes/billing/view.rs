//! Representation of a tenant's billing.

use std::collections::BTreeMap;

use bson::DateTime;
use dezky_shared::{
    billing_account::{BillingAccount, DefaultCard, NextInvoice},
    card_billing::StripeStatus,
    invoice::Invoice,
    invoicing::{Enrolment, Next},
    money,
    subscription::{Subscription, SubscriptionStatus},
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
    /// Obstacles to charging the subscription as it was sold. Empty if there is none.
    conditions: Vec<BillingCondition>,
    /// Time of the data.
    as_of: Timestamp,
}

/// Obstacle to charging a subscription as it was sold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
enum BillingCondition {
    /// It is charged to a card, and there is none.
    NoPaymentMethod,
    /// The VAT id was refused: invoices do not show it.
    BillingInfoRejected,
    /// A payment failed, or an invoice is overdue.
    PastDue,
    /// The first payment is not made, or was not made in time. A new card has it tried again.
    Incomplete,
    /// The customer has to authenticate a payment at the bank, on the page of the open invoice.
    ActionRequired,
    /// Items that were added at the payment provider are charged, too, until they are removed there.
    OtherItems,
}

impl BillingCondition {
    /// The conditions of a tenant's live subscription and its account.
    fn of(subscription: Option<&Subscription>, account: Option<&BillingAccount>) -> Vec<Self> {
        let has_card = account.is_some_and(|account| account.default_card.is_some());
        let is_rejected = account.is_some_and(|account| account.refused_vat_id.is_some());
        let is = |holds: fn(&Subscription) -> bool| subscription.is_some_and(holds);
        let is_incomplete = is(is_incomplete);
        let is_past_due = is(|it| it.status == SubscriptionStatus::PastDue);
        let all = [
            (
                Self::NoPaymentMethod,
                is(Subscription::is_by_card) && !has_card,
            ),
            (Self::BillingInfoRejected, is_rejected),
            (Self::PastDue, is_past_due && !is_incomplete),
            (Self::Incomplete, is_incomplete),
            (Self::ActionRequired, is(|it| it.needs_authentication)),
            (Self::OtherItems, is(|it| it.has_other_items)),
        ];
        let holding = all.into_iter().filter(|(_, holds)| *holds);
        holding.map(|(condition, _)| condition).collect()
    }
}

/// Whether the first payment at Stripe is not made.
fn is_incomplete(subscription: &Subscription) -> bool {
    let known_status = subscription
        .stripe_status
        .as_deref()
        .and_then(StripeStatus::of);
    matches!(
        known_status,
        Some(StripeStatus::Incomplete | StripeStatus::Expired)
    )
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
    /// Net amount, in minor units. For a subscription that Stripe bills, with its proration for a change within the period, as of
    /// the last sync.
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
            conditions: Vec::new(),
            as_of: now.into(),
        }
    }

    /// With the customer, the card and the conditions of the billing account.
    pub(super) fn with_account(
        mut self,
        subscription: Option<&Subscription>,
        account: Option<BillingAccount>,
    ) -> Self {
        if self.enabled {
            self.conditions = BillingCondition::of(subscription, account.as_ref());
        }
        if let Some(account) = account.filter(|account| account.stripe_customer_id.is_some()) {
            self.customer = CustomerState::Ready;
            let is_by_stripe = subscription.is_some_and(|it| !it.biller.is_run());
            if let (Some(shown), Some(read)) = (&mut self.next_invoice, account.next_invoice)
                && is_by_stripe
            {
                shown.follow(&read);
            }
            self.default_card = account.default_card.map(CardView::from);
        }
        self
    }
}

impl NextInvoiceView {
    fn of(subscription: &Subscription) -> Option<Self> {
        // Stripe begins the first period of one that it bills once there is a card.
        let waits = !subscription.biller.is_run() && subscription.stripe_subscription_id.is_none();
        if subscription.cancel_at_period_end || waits {
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

    /// Takes the amount that Stripe has calculated, if it is that of the same period. A credit that exceeds the price is shown as
    /// nothing to pay.
    fn follow(&mut self, read: &NextInvoice) {
        if self.at == Timestamp::from(read.at) && self.currency == read.currency {
            self.subtotal_minor = read.subtotal_minor.max(0);
        }
    }
}
