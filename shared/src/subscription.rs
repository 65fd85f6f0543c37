//! What a tenant pays.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    id::{SubscriptionId, TenantId},
    tenant::Plan,
};

/// How often is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cycle {
    /// Twelve times a year.
    Monthly,
    /// Four times a year.
    Quarterly,
    /// Once a year.
    Yearly,
}

/// Whether a subscription is in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SubscriptionStatus {
    /// It is.
    Active,
    /// It is over.
    Cancelled,
}

/// A subscription, as stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its id.
    #[serde(rename = "_id")]
    pub id: SubscriptionId,
    /// Whose it is. A tenant has at most one that is active.
    pub tenant_id: TenantId,
    /// What was bought.
    pub plan: Plan,
    /// How often is paid.
    pub cycle: Cycle,
    /// For how many people.
    pub seats: i32,
    /// ISO 4217, upper case.
    pub currency: String,
    /// Price of a cycle in minor units of the currency.
    pub price_minor: i64,
    /// Whether it is in force.
    pub status: SubscriptionStatus,
    /// + 1 with every write.
    pub revision: i64,
    /// When it was made.
    pub created_at: DateTime,
    /// When it last changed.
    pub updated_at: DateTime,
}
