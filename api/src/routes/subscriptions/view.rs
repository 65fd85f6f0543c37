//! Representation of a subscription.

use dezky_shared::{
    billing::{Cycle, Plan},
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A subscription.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct SubscriptionView {
    /// Id.
    id: String,
    /// Tenant id.
    tenant_id: String,
    /// Tenant slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Billed plan: `starter`, `business` or `enterprise`. The tenant has the provisioned plan.
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Plan,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = String, pattern = "^(monthly|quarterly|yearly)$")]
    cycle: Cycle,
    /// Number of seats.
    #[schema(minimum = 1, maximum = 100_000)]
    seats: i32,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Price per billing cycle for all seats, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: i64,
    /// Status: `active`, `past_due` (live, an invoice is overdue) or `cancelled`.
    #[schema(value_type = String, pattern = "^(active|past_due|cancelled)$")]
    status: SubscriptionStatus,
    /// Start time.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// Start of the next billing cycle.
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<Timestamp>,
    /// Cancellation time.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Timestamp>,
    /// Subscription id at Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_subscription_id: Option<String>,
    /// Price id at Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_price_id: Option<String>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
}

impl SubscriptionView {
    /// The subscription, with the slug of `tenant`.
    pub(super) fn new(subscription: Subscription, tenant: Option<&Tenant>) -> Self {
        Self {
            tenant: tenant.map(|tenant| tenant.slug.clone()),
            id: subscription.id.to_string(),
            tenant_id: subscription.tenant_id.to_string(),
            plan: subscription.plan,
            cycle: subscription.cycle,
            seats: subscription.seats,
            currency: subscription.currency,
            price_minor: subscription.price_minor,
            status: subscription.status,
            started_at: subscription.started_at.map(Timestamp::from),
            renews_at: subscription.renews_at.map(Timestamp::from),
            cancelled_at: subscription.cancelled_at.map(Timestamp::from),
            stripe_subscription_id: subscription.stripe_subscription_id,
            stripe_price_id: subscription.stripe_price_id,
            revision: subscription.revision,
            created_at: subscription.created_at.into(),
            updated_at: subscription.updated_at.into(),
        }
    }

    /// The subscription, with the slug of its tenant among `tenants`.
    pub(in crate::routes) fn among(subscription: Subscription, tenants: &[Tenant]) -> Self {
        let id = subscription.tenant_id;
        let tenant = tenants.iter().find(|tenant| tenant.id == id);
        Self::new(subscription, tenant)
    }
}
