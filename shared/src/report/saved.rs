//! Saved reports: a closed set of parameters, which are checked again on each use.

use bson::DateTime;
use serde::{Deserialize, Serialize};

use super::{GroupBy, ReportName, RowOrder};
use crate::{
    billing::{Plan, month::Month},
    id::{SavedReportId, UserId},
};

/// Maximum number of saved reports of an owner and scope.
pub const MAX_SAVED: u64 = 50;

/// Saved report, as stored. Only its owner sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedReport {
    /// Unique id.
    #[serde(rename = "_id")]
    pub id: SavedReportId,
    /// Owner.
    pub owner_id: UserId,
    /// Scope in which it was saved: `platform`, or the id of a partner.
    pub scope: String,
    /// Name, unique for the owner and scope.
    pub name: String,
    /// Its query.
    pub query: SavedQuery,
    /// Incremented by every write.
    pub revision: i64,
    /// Creation time.
    pub created_at: DateTime,
    /// Time of the last change.
    pub updated_at: DateTime,
}

/// Query of a saved report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SavedQuery {
    /// Report.
    pub report: ReportName,
    /// Number of months up to the current one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<i32>,
    /// First month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Month>,
    /// Last month.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Month>,
    /// Currency, ISO 4217, upper case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<String>,
    /// Plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<Plan>,
    /// Grouping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group_by: Option<GroupBy>,
    /// Order of the rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sort: Option<RowOrder>,
    /// Maximum number of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<i32>,
}
