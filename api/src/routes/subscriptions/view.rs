//! A subscription, as callers see it.

use dezky_shared::{
    billing::{Cycle, Plan},
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// What a tenant has bought.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::routes) struct SubscriptionView {
    /// Its id.
    id: String,
    /// Whose it is, by id.
    tenant_id: String,
    /// The same, by slug.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// What is paid for: `starter`, `business` or `enterprise`. What the tenant has is its own plan.
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Plan,
    /// How often: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = String, pattern = "^(monthly|quarterly|yearly)$")]
    cycle: Cycle,
    /// For how many people.
    #[schema(minimum = 1, maximum = 100_000)]
    seats: i32,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// What a cycle costs, for all seats together, in minor units of the currency.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: i64,
    /// Whether it is in force: `active`, `past_due` (it is, though an invoice is overdue) or `cancelled`.
    #[schema(value_type = String, pattern = "^(active|past_due|cancelled)$")]
    status: SubscriptionStatus,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When the next cycle begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    renews_at: Option<Timestamp>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<Timestamp>,
    /// Its id at Stripe, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_subscription_id: Option<String>,
    /// The id of its price at Stripe, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_price_id: Option<String>,
    /// + 1 with every change.
    revision: i64,
    /// When it was made.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

impl SubscriptionView {
    /// A subscription of `tenant`.
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

    /// A subscription of one of `tenants`.
    pub(in crate::routes) fn among(subscription: Subscription, tenants: &[Tenant]) -> Self {
        let its = tenants
            .iter()
            .find(|tenant| tenant.id == subscription.tenant_id);
        Self::new(subscription, its)
    }
}
