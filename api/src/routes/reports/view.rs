//! Representation of a report: series for charts, and rows for tables.

use dezky_shared::{billing::month::Month, report::ReportName};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A report. Amounts are in minor units of a currency and never converted.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Report)]
pub(super) struct ReportView {
    /// Report: `mrr`, `growth`, `cohorts`, `top-customers`, `revenue-by-plan`, `health` or `partner-revenue`.
    pub(super) report: ReportName,
    /// Time of the newest data. Missing without any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) as_of: Option<Timestamp>,
    /// Time zone of the months: `UTC`.
    pub(super) time_zone: &'static str,
    /// Whether every month is over.
    pub(super) complete: bool,
    /// Amounts by currency.
    pub(super) currencies: Vec<CurrencyReport>,
    /// Series that belong to no currency: numbers of tenants.
    pub(super) series: Vec<Series>,
    /// Rows that belong to no currency.
    pub(super) rows: Vec<Row>,
}

/// The part of a report in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CurrencyReport {
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    pub(super) currency: String,
    /// Number of decimal places of the minor unit.
    #[schema(minimum = 0, maximum = 3)]
    pub(super) exponent: u8,
    /// Series, one point for each month.
    pub(super) series: Vec<Series>,
    /// Rows.
    pub(super) rows: Vec<Row>,
}

/// Unit of values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportUnit)]
pub(super) enum Unit {
    /// Minor units of the currency: `valueMinor`.
    Minor,
    /// A number: `value`.
    Count,
    /// Hundredths of a percent: `value`.
    BasisPoints,
}

impl Unit {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Minor => "minor",
            Self::Count => "count",
            Self::BasisPoints => "basisPoints",
        }
    }
}

/// A series of a chart.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportSeries)]
pub(super) struct Series {
    /// Key.
    #[schema(example = "mrr")]
    pub(super) key: String,
    /// Label.
    #[schema(example = "MRR")]
    pub(super) label: String,
    /// Unit: `minor`, `count` or `basisPoints`.
    pub(super) unit: Unit,
    /// One point for each month.
    pub(super) points: Vec<Point>,
}

/// Value of a series in a month. Null in a month without data, and of a rate over nothing.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportPoint)]
pub(super) struct Point {
    /// Month (UTC).
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    pub(super) month: Month,
    /// Value of an amount, in minor units. Missing of other units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    value_minor: Option<Nullable>,
    /// Value of other units. Missing of an amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    value: Option<Nullable>,
}

/// A row of a table.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportRow)]
pub(super) struct Row {
    /// Key: a month, a tenant's or partner's slug, or a state.
    #[schema(example = "acme")]
    pub(super) key: String,
    /// Label.
    pub(super) label: String,
    /// Cells.
    pub(super) cells: Vec<Cell>,
}

/// A cell of a row.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReportCell)]
pub(super) struct Cell {
    /// Key: the column.
    #[schema(example = "mrr")]
    pub(super) key: String,
    /// Unit: `minor`, `count` or `basisPoints`.
    pub(super) unit: Unit,
    /// Value of an amount, in minor units. Missing of other units.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    value_minor: Option<Nullable>,
    /// Value of other units. Missing of an amount.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<i64>)]
    value: Option<Nullable>,
}

/// A value that is there, and may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
struct Nullable(Option<i64>);

/// The value in the field of its unit: `valueMinor` or `value`.
fn by_unit(unit: Unit, value: Option<i64>) -> (Option<Nullable>, Option<Nullable>) {
    let value = Some(Nullable(value));
    match unit {
        Unit::Minor => (value, None),
        Unit::Count | Unit::BasisPoints => (None, value),
    }
}

impl Series {
    pub(super) fn new(
        key: impl Into<String>,
        label: impl Into<String>,
        unit: Unit,
        values: impl IntoIterator<Item = (Month, Option<i64>)>,
    ) -> Self {
        let point = |(month, value)| {
            let (value_minor, value) = by_unit(unit, value);
            Point {
                month,
                value_minor,
                value,
            }
        };
        Self {
            key: key.into(),
            label: label.into(),
            unit,
            points: values.into_iter().map(point).collect(),
        }
    }
}

impl Row {
    /// Value of a column.
    pub(super) fn value(&self, column: &str) -> Option<i64> {
        let cell = self.cells.iter().find(|cell| cell.key == column);
        cell.and_then(Cell::value)
    }
}

impl Cell {
    pub(super) fn new(key: impl Into<String>, unit: Unit, value: Option<i64>) -> Self {
        let (value_minor, value) = by_unit(unit, value);
        Self {
            key: key.into(),
            unit,
            value_minor,
            value,
        }
    }

    /// Value, whatever its unit.
    pub(super) fn value(&self) -> Option<i64> {
        self.value_minor.or(self.value).and_then(|it| it.0)
    }
}

impl Point {
    /// Value, whatever its unit.
    pub(super) fn value(&self) -> Option<i64> {
        self.value_minor.or(self.value).and_then(|it| it.0)
    }
}
