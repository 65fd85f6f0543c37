//! Names of the reports.

use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ReportName {
    /// Recurring revenue, its movements and its rates.
    Mrr,
    /// Tenants, those that pay, and recurring revenue.
    Growth,
    /// Tenants that stay and leave, by the month in which they paid first.
    Cohorts,
    /// The customers that pay most.
    TopCustomers,
    /// Recurring revenue and payments by plan.
    RevenueByPlan,
    /// Tenants by state.
    Health,
    /// Partners' shares of payments.
    PartnerRevenue,
}

impl ReportName {
    /// Every report.
    pub const ALL: [Self; 7] = [
        Self::Mrr,
        Self::Growth,
        Self::Cohorts,
        Self::TopCustomers,
        Self::RevenueByPlan,
        Self::Health,
        Self::PartnerRevenue,
    ];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mrr => "mrr",
            Self::Growth => "growth",
            Self::Cohorts => "cohorts",
            Self::TopCustomers => "top-customers",
            Self::RevenueByPlan => "revenue-by-plan",
            Self::Health => "health",
            Self::PartnerRevenue => "partner-revenue",
        }
    }
}

impl FromStr for ReportName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut all = Self::ALL.into_iter();
        all.find(|report| report.name() == text).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_stored_under_its_name() {
        for report in ReportName::ALL {
            let stored = serde_json::to_value(report).unwrap();
            assert_eq!(stored, report.name());
            assert_eq!(report.name().parse(), Ok(report));
        }
    }
}
