//! Monthly subscription snapshot of every tenant: history that cannot be derived from the tenants' current state.
//!
//! A snapshot is refreshed daily during its month and once more after the end of the month, so that the stored one
//! shows the end of the month, and a current month has one too. `taken_at` is the time of the data.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use crate::{
    billing::{Cycle, Plan, month::Month},
    id::{PartnerId, SnapshotId, SubscriptionId, TenantId},
    subscription::{Subscription, SubscriptionStatus},
    tenant::TenantStatus,
};

/// Tenant fields of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantState {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: TenantId,
    /// Name in URLs.
    pub slug: String,
    /// Status.
    pub status: TenantStatus,
    /// Plan.
    pub plan: Plan,
    /// Managing partner at that time.
    #[serde(default)]
    pub partner_id: Option<PartnerId>,
}

/// Terms of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionTerms {
    /// Subscription id.
    pub id: SubscriptionId,
    /// Status.
    pub status: SubscriptionStatus,
    /// Plan.
    pub plan: Plan,
    /// Billing cycle.
    pub cycle: Cycle,
    /// Number of seats.
    pub seats: i32,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Price per billing cycle, in minor units of the currency.
    pub price_minor: i64,
}

/// Subscription snapshot of a tenant and month, as stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionSnapshot {
    /// Deterministic id of tenant and month.
    #[serde(rename = "_id")]
    pub id: SnapshotId,
    /// Month.
    pub month: Month,
    /// Owning tenant.
    pub tenant_id: TenantId,
    /// Tenant's name in URLs.
    pub slug: String,
    /// Tenant's status. Terminated tenants have snapshots too, which distinguishes churn from missing data.
    pub tenant_status: TenantStatus,
    /// Tenant's plan.
    pub plan: Plan,
    /// Managing partner at that time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partner_id: Option<PartnerId>,
    /// Live subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<SubscriptionTerms>,
    /// Time of the data.
    pub taken_at: DateTime,
}

impl SubscriptionSnapshot {
    /// Snapshot of `tenant` and its live subscription at `taken_at`, for `month`.
    pub fn new(
        month: Month,
        tenant: TenantState,
        subscription: Option<Subscription>,
        taken_at: DateTime,
    ) -> Self {
        Self {
            id: SnapshotId::deterministic(tenant.id, &month.to_string()),
            month,
            tenant_id: tenant.id,
            slug: tenant.slug,
            tenant_status: tenant.status,
            plan: tenant.plan,
            partner_id: tenant.partner_id,
            subscription: subscription.map(|subscription| SubscriptionTerms {
                id: subscription.id,
                status: subscription.status,
                plan: subscription.plan,
                cycle: subscription.cycle,
                seats: subscription.seats,
                currency: subscription.currency,
                price_minor: subscription.price_minor,
            }),
            taken_at,
        }
    }
}
