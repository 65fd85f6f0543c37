//! Arrangement of a report: the grouping of its values, and the order of its rows, from closed sets.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ReportName;

/// Grouping of a report's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ReportGrouping)]
pub enum GroupBy {
    /// By month.
    Month,
    /// By plan.
    Plan,
    /// By tenant.
    Tenant,
    /// By partner.
    Partner,
}

impl GroupBy {
    /// Every grouping.
    pub const ALL: [Self; 4] = [Self::Month, Self::Plan, Self::Tenant, Self::Partner];

    /// Name in documents and on the wire.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Plan => "plan",
            Self::Tenant => "tenant",
            Self::Partner => "partner",
        }
    }
}

impl FromStr for GroupBy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter();
        all.find(|group_by| group_by.name() == text)
            .ok_or_else(|| "expected month, plan, tenant or partner".to_owned())
    }
}

/// Column that orders rows: the key of the row, or of one of its cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowColumn {
    /// Key of the row.
    Key,
    /// Number of tenants of a cohort.
    Size,
    /// Yearly revenue.
    Arr,
    /// Monthly revenue.
    Mrr,
    /// Payments.
    Paid,
    /// Shares credited to partners.
    Accrued,
    /// Shares taken back.
    Reversed,
    /// Amounts that operators wrote.
    Adjusted,
    /// Shares that partners are owed.
    Owed,
}

impl RowColumn {
    /// Every column.
    pub const ALL: [Self; 9] = [
        Self::Key,
        Self::Size,
        Self::Arr,
        Self::Mrr,
        Self::Paid,
        Self::Accrued,
        Self::Reversed,
        Self::Adjusted,
        Self::Owed,
    ];

    /// Name in documents and on the wire, which is the key of the cells.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Size => "size",
            Self::Arr => "arr",
            Self::Mrr => "mrr",
            Self::Paid => "paid",
            Self::Accrued => "accrued",
            Self::Reversed => "reversed",
            Self::Adjusted => "adjusted",
            Self::Owed => "owed",
        }
    }
}

/// Order of rows, written `paid`, or `-paid` for the largest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RowOrder {
    /// Column.
    pub column: RowColumn,
    /// Whether the largest is first.
    pub is_descending: bool,
}

impl fmt::Display for RowOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.is_descending { "-" } else { "" };
        write!(f, "{sign}{}", self.column.name())
    }
}

impl FromStr for RowOrder {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (is_descending, name) = match text.strip_prefix('-') {
            Some(name) => (true, name),
            None => (false, text),
        };
        let mut all = RowColumn::ALL.into_iter();
        let column = all.find(|column| column.name() == name);
        let column = column.ok_or_else(|| "expected a column such as paid, or -paid".to_owned())?;
        Ok(Self {
            column,
            is_descending,
        })
    }
}

impl TryFrom<String> for RowOrder {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<RowOrder> for String {
    fn from(order: RowOrder) -> Self {
        order.to_string()
    }
}

impl ReportName {
    /// Groupings of the report, the default one first.
    pub const fn groupings(self) -> &'static [GroupBy] {
        match self {
            Self::Mrr => &[GroupBy::Month, GroupBy::Plan],
            Self::Growth | Self::Cohorts => &[GroupBy::Month],
            Self::TopCustomers => &[GroupBy::Tenant],
            Self::RevenueByPlan => &[GroupBy::Plan],
            Self::Health => &[],
            Self::PartnerRevenue => &[GroupBy::Month, GroupBy::Partner],
        }
    }

    /// Columns by which the rows of the report can be ordered, in this grouping or in the default one.
    pub const fn columns(self, group_by: Option<GroupBy>) -> &'static [RowColumn] {
        match (self, group_by) {
            (Self::Cohorts, _) => &[RowColumn::Key, RowColumn::Size],
            (Self::TopCustomers, _) => &[RowColumn::Key, RowColumn::Arr, RowColumn::Mrr],
            (Self::PartnerRevenue, Some(GroupBy::Partner)) => &[
                RowColumn::Paid,
                RowColumn::Accrued,
                RowColumn::Reversed,
                RowColumn::Adjusted,
                RowColumn::Owed,
            ],
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_read_as_it_is_written() {
        for column in RowColumn::ALL {
            for is_descending in [false, true] {
                let order = RowOrder {
                    column,
                    is_descending,
                };
                assert_eq!(order.to_string().parse(), Ok(order));
            }
        }
        for bad in ["", "-", "--paid", "Paid", "paid ", "plan"] {
            assert!(bad.parse::<RowOrder>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_grouping_is_stored_under_its_name() {
        for group_by in GroupBy::ALL {
            let stored = serde_json::to_value(group_by).unwrap();
            assert_eq!(stored, group_by.name());
            assert_eq!(group_by.name().parse(), Ok(group_by));
        }
    }
}
