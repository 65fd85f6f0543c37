//! Representation of a saved report.

use dezky_shared::{
    billing::{Plan, month::Month},
    report::{GroupBy, ReportName, RowOrder, SavedReport},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::timestamp::Timestamp;

/// A saved report.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SavedReport)]
pub(super) struct SavedReportView {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Name.
    name: String,
    /// Report: `mrr`, `growth`, `cohorts`, `top-customers`, `revenue-by-plan`, `health` or `partner-revenue`.
    report: ReportName,
    /// Number of months up to the current one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 36)]
    last: Option<i32>,
    /// First month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-01")]
    from: Option<Month>,
    /// Last month (UTC).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    to: Option<Month>,
    /// Currency (ISO 4217).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: Option<String>,
    /// Plan: `starter`, `business` or `enterprise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    /// Grouping: `month`, `plan`, `tenant` or `partner`.
    #[serde(skip_serializing_if = "Option::is_none")]
    group_by: Option<GroupBy>,
    /// Order of the rows: a column, with `-` for the largest first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "-paid")]
    sort: Option<RowOrder>,
    /// Maximum number of rows, in each currency.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<i32>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
}

impl From<SavedReport> for SavedReportView {
    fn from(saved: SavedReport) -> Self {
        let query = saved.query;
        Self {
            id: saved.id.to_string(),
            name: saved.name,
            report: query.report,
            last: query.last,
            from: query.from,
            to: query.to,
            currency: query.currency,
            plan: query.plan,
            group_by: query.group_by,
            sort: query.sort,
            limit: query.limit,
            revision: saved.revision,
            created_at: saved.created_at.into(),
            updated_at: saved.updated_at.into(),
        }
    }
}
