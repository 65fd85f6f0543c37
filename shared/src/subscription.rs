//! What a tenant pays.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    billing::{Cycle, Plan},
    id::{SubscriptionId, TenantId},
};

/// Whether a subscription is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionStatus {
    /// It is.
    Active,
    /// It is, though an invoice is overdue.
    #[serde(rename = "past_due")]
    PastDue,
    /// It is over.
    Cancelled,
}

impl SubscriptionStatus {
    /// Whether it is in force: a tenant has at most one that is.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::Active | Self::PastDue)
    }
}

/// A subscription, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: SubscriptionId,
    /// Whose it is. A tenant has at most one that is in force.
    pub tenant_id: TenantId,
    /// What was bought. What is provisioned is the tenant's own plan.
    pub plan: Plan,
    /// How often is paid.
    pub cycle: Cycle,
    /// For how many people.
    pub seats: i32,
    /// ISO 4217, upper case.
    pub currency: String,
    /// What a cycle costs, for all seats together, in minor units of the currency.
    pub price_minor: i64,
    /// Whether it is in force.
    pub status: SubscriptionStatus,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<DateTime>,
    /// When the next cycle begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renews_at: Option<DateTime>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<DateTime>,
    /// Its id at Stripe, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_subscription_id: Option<String>,
    /// The id of its price at Stripe, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stripe_price_id: Option<String>,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}
