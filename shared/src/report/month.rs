//! Sums of a month, as stored: one document for the platform and one for each partner.

use std::collections::BTreeMap;

use bson::DateTime;
use serde::{Deserialize, Serialize};

use super::Movements;
use crate::{billing::month::Month, id::TenantId};

/// Customers kept for each currency: those that pay most.
pub const MAX_TOP: usize = 50;

/// Sums of a month and a scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportMonth {
    /// `<month>/<scope>`.
    #[serde(rename = "_id")]
    pub id: String,
    /// Month.
    pub month: Month,
    /// Scope: `platform`, or the id of a partner.
    pub scope: String,
    /// Time of the newest snapshot.
    pub as_of: DateTime,
    /// Time of adding up.
    pub summarized_at: DateTime,
    /// Number of tenants that are not removed.
    #[serde(default)]
    pub tenants: i64,
    /// Number of tenants that pay.
    #[serde(default)]
    pub paying: i64,
    /// Sums by currency.
    #[serde(default)]
    pub currencies: BTreeMap<String, CurrencyMonth>,
    /// Tenants by the month in which they paid first.
    #[serde(default)]
    pub cohorts: BTreeMap<String, Cohort>,
    /// Tenants by state.
    #[serde(default)]
    pub health: BTreeMap<String, HealthCount>,
    /// The customers that pay most, by currency, at most [`MAX_TOP`] each.
    #[serde(default)]
    pub top: BTreeMap<String, Vec<TopCustomer>>,
}

/// Sums of a month in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CurrencyMonth {
    /// Movements.
    pub total: Movements,
    /// Movements by plan. A change of plan is a transfer between two of them.
    pub plans: BTreeMap<String, Movements>,
}

/// Tenants that paid first in one month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Cohort {
    /// Those that pay.
    pub paying: i64,
    /// Those that stopped paying in the month.
    pub churned: i64,
}

/// Tenants in one state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HealthCount {
    /// Number of tenants.
    pub tenants: i64,
    /// Their yearly revenue by currency, in minor units.
    pub arr_minor: BTreeMap<String, i64>,
}

/// A customer among those that pay most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopCustomer {
    /// Tenant.
    pub tenant_id: TenantId,
    /// Tenant's name in URLs.
    pub slug: String,
    /// Name of the plan, which this build may not know: a newer one adds up months, too.
    pub plan: String,
    /// Yearly revenue, in minor units.
    pub arr_minor: i64,
}

impl ReportMonth {
    /// Id of a month and a scope.
    pub fn id(month: Month, scope: impl std::fmt::Display) -> String {
        format!("{month}/{scope}")
    }

    /// Whether the month was over when it was added up.
    pub fn is_complete(&self) -> bool {
        self.month.end() <= self.summarized_at
    }
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    #[test]
    fn a_month_with_a_plan_of_a_newer_build_is_read() {
        let customer = doc! {
            "tenantId": TenantId::new(), "slug": "acme", "plan": "galactic", "arrMinor": 120_000_i64,
        };
        let stored = doc! {
            "_id": "2026-02/platform", "month": "2026-02", "scope": "platform",
            "asOf": DateTime::from_millis(0), "summarizedAt": DateTime::from_millis(0),
            "top": { "DKK": [customer] },
        };

        let read: ReportMonth = bson::deserialize_from_document(stored).unwrap();

        assert_eq!(read.top["DKK"][0].plan, "galactic");
    }
}
