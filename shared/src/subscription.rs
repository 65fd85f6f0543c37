//! Subscription of a tenant.

use bson::DateTime;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
};

/// Status of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionStatus {
    /// In force.
    Active,
    /// In force, with an overdue invoice.
    #[serde(rename = "past_due")]
    PastDue,
    /// Ended.
    Cancelled,
}

impl SubscriptionStatus {
    /// Whether the subscription is in force: a tenant has at most one live subscription.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::PastDue)
    }

    /// The status of a live, enrolled subscription.
    pub const fn by_invoices(has_overdue: bool) -> Self {
        if has_overdue {
            Self::PastDue
        } else {
            Self::Active
        }
    }
}

/// Cause of the end of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SubscriptionEnd)]
pub enum EndedBy {
    /// An operator, at once.
    Operator,
    /// The end of the last invoiced period, as requested before.
    PeriodEnd,
    /// The removal of the tenant.
    TenantTerminated,
    /// A payment that failed until Stripe gave up.
    PaymentFailed,
    /// A person, in Stripe's dashboard.
    Stripe,
    /// The deletion of the customer at Stripe.
    CustomerDeleted,
}

/// Biller of a subscription's periods. It changes at the boundary of a period, so that no period has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Biller {
    /// Our invoice run.
    #[default]
    Run,
    /// Stripe, by a subscription of its own that is charged to the card.
    Stripe,
}

impl Biller {
    /// Whether it is the invoice run.
    pub fn is_run(&self) -> bool {
        *self == Self::Run
    }
}

/// Collection of a subscription's invoices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CollectionMethod {
    /// An operator marks them as paid.
    #[default]
    Manual,
    /// Stripe sends them to the customer, with a page on which they are paid. They carry no tax.
    SendInvoice,
    /// Stripe charges them to the customer's card. Until there is one, invoices of a subscription that was billed before are
    /// sent.
    ChargeAutomatically,
}

impl CollectionMethod {
    /// Whether it is the default one.
    pub fn is_manual(&self) -> bool {
        *self == Self::Manual
    }
}

/// Terms of a new subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTerms {
    /// Purchased plan.
    pub plan: Plan,
    /// Billing cycle.
    pub cycle: Cycle,
    /// Number of seats.
    pub seats: i32,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Price per billing cycle for all seats, in minor units of the currency.
    pub price_minor: i64,
}

/// Subscription, as stored.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, each a stored field"
)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: SubscriptionId,
    /// Tenant. At most one of its subscriptions is live.
    pub tenant_id: TenantId,
    /// Purchased plan. Provisioning follows the tenant's own plan.
    pub plan: Plan,
    /// Billing cycle.
    pub cycle: Cycle,
    /// Number of seats.
    pub seats: i32,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Price per billing cycle for all seats, in minor units of the currency.
    pub price_minor: i64,
    /// Whether its invoices are billed to the partner that manages the tenant.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub partner_billed: bool,
    /// Collection of its invoices, except those that a partner owes.
    #[serde(default, skip_serializing_if = "CollectionMethod::is_manual")]
    pub collection_method: CollectionMethod,
    /// Current status.
    pub status: SubscriptionStatus,
    /// Start time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
    /// Start of the next billing cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews_at: Option<DateTime>,
    /// End of the last invoiced period. A subscription that has one is enrolled: the invoice run invoices the periods
    /// after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoiced_through: Option<DateTime>,
    /// Instant from which the billing periods are counted, once enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billing_anchor: Option<DateTime>,
    /// Whether it ends with the last invoiced period.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_at_period_end: bool,
    /// End time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<DateTime>,
    /// Cause of its end. Missing for those that ended before this was recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<EndedBy>,
    /// Id at Stripe, once created there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_subscription_id: Option<String>,
    /// Price id at Stripe, once created there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price_id: Option<String>,
    /// Status at Stripe, as it was last read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_status: Option<String>,
    /// Whether the customer has to authenticate a payment at the bank.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_authentication: bool,
    /// Whether the one at Stripe has items besides the sold one, which a person has added there and which are charged, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_other_items: bool,
    /// Biller of its periods.
    #[serde(default, skip_serializing_if = "Biller::is_run")]
    pub biller: Biller,
    /// Whether the invoice run billed it until its creation at Stripe was requested, and bills it again if Stripe refuses
    /// that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub leaves_run: bool,
    /// Whether a person has asked for a subscription at Stripe that does not exist yet. Without it, one that has ended there
    /// would be created again by every sync.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_recreate: bool,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

impl Subscription {
    /// An active subscription that starts at `now`, does not renew, and is not enrolled.
    pub fn new(tenant_id: TenantId, terms: NewTerms, now: DateTime) -> Self {
        Self {
            id: SubscriptionId::new(),
            tenant_id,
            plan: terms.plan,
            cycle: terms.cycle,
            seats: terms.seats,
            currency: terms.currency,
            price_minor: terms.price_minor,
            partner_billed: false,
            collection_method: CollectionMethod::Manual,
            status: SubscriptionStatus::Active,
            started_at: Some(now),
            renews_at: None,
            invoiced_through: None,
            billing_anchor: None,
            cancel_at_period_end: false,
            cancelled_at: None,
            ended_by: None,
            stripe_subscription_id: None,
            stripe_price_id: None,
            stripe_status: None,
            needs_authentication: false,
            has_other_items: false,
            biller: Biller::Run,
            leaves_run: false,
            may_recreate: false,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }

    /// Ends the subscription at `at`.
    pub fn end(&mut self, at: DateTime, ended_by: EndedBy) {
        self.status = SubscriptionStatus::Cancelled;
        self.cancelled_at = Some(at);
        self.renews_at = None;
        self.ended_by = Some(ended_by);
    }
}
