//! Subscription of a tenant.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
};

/// Status of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// Subscription, as stored.
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
    /// Current status.
    pub status: SubscriptionStatus,
    /// Start time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
    /// Start of the next billing cycle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews_at: Option<DateTime>,
    /// End time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<DateTime>,
    /// Id at Stripe, once created there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_subscription_id: Option<String>,
    /// Price id at Stripe, once created there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price_id: Option<String>,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}
