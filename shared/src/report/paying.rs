//! Recurring payment and state of a tenant, by its snapshot.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    billing::Plan, id::PartnerId, subscription::SubscriptionStatus,
    subscription_snapshot::SubscriptionSnapshot, tenant::TenantStatus,
};

/// Recurring payment of a tenant at the end of a month.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecurringPayment {
    /// Partner that manages the tenant.
    pub partner_id: Option<PartnerId>,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Plan.
    pub plan: Plan,
    /// Yearly price, positive, in minor units: exact for every billing cycle.
    pub arr_minor: i64,
}

/// State of a tenant, the most serious one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HealthReason {
    /// Being removed.
    Terminating,
    /// Suspended.
    Suspended,
    /// With an overdue invoice.
    PastDue,
    /// Without a subscription, or not provisioned yet.
    NoSubscription,
    /// With a subscription free of charge.
    FreeOfCharge,
    /// Paying.
    Paying,
}

impl HealthReason {
    /// Every state, the most serious one first.
    pub const ALL: [Self; 6] = [
        Self::Terminating,
        Self::Suspended,
        Self::PastDue,
        Self::NoSubscription,
        Self::FreeOfCharge,
        Self::Paying,
    ];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Terminating => "terminating",
            Self::Suspended => "suspended",
            Self::PastDue => "past_due",
            Self::NoSubscription => "no_subscription",
            Self::FreeOfCharge => "free_of_charge",
            Self::Paying => "paying",
        }
    }
}

impl SubscriptionSnapshot {
    /// Recurring payment of the tenant: none once it is removed, without a subscription, or free of charge.
    pub fn recurring_payment(&self) -> Option<RecurringPayment> {
        let terms = self.subscription.as_ref()?;
        let arr_minor = terms.price_minor.saturating_mul(terms.cycle.per_year());
        (self.tenant_status != TenantStatus::Terminated && arr_minor > 0).then(|| {
            RecurringPayment {
                partner_id: self.partner_id,
                currency: terms.currency.clone(),
                plan: terms.plan,
                arr_minor,
            }
        })
    }

    /// The most serious state of the tenant; `None` once it is removed.
    pub fn health(&self) -> Option<HealthReason> {
        match self.tenant_status {
            TenantStatus::Terminated => return None,
            TenantStatus::Terminating => return Some(HealthReason::Terminating),
            TenantStatus::Suspended => return Some(HealthReason::Suspended),
            TenantStatus::Pending | TenantStatus::Active => {}
        }
        let Some(terms) = &self.subscription else {
            return Some(HealthReason::NoSubscription);
        };
        Some(match terms.status {
            SubscriptionStatus::PastDue => HealthReason::PastDue,
            _ if terms.price_minor == 0 => HealthReason::FreeOfCharge,
            _ => HealthReason::Paying,
        })
    }
}
