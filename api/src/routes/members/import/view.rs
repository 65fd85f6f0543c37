//! Representations of an import.

use bson::DateTime;
use dezky_shared::{
    member_import::{ImportRow, MemberImport, RowError, RowOutcome, RowPassword},
    queue::job::Job,
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{error::ProblemCode, timestamp::Timestamp, validate::EnumName, views::JobLink};

/// An import of members.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUserImport)]
pub(super) struct ImportView {
    /// Id.
    id: String,
    /// Number of rows.
    total: i64,
    /// Number of rows not processed yet.
    pending: i64,
    /// Number of rows whose member was created.
    created: i64,
    /// Number of rows whose member existed already.
    exists: i64,
    /// Number of rows that were refused.
    refused: i64,
    /// The job that carries out the import.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
    /// Id of the requesting user.
    requested_by: String,
    /// Creation time.
    created_at: Timestamp,
    /// Time at which the last row was processed.
    #[serde(skip_serializing_if = "Option::is_none")]
    finished_at: Option<Timestamp>,
}

impl ImportView {
    /// The import, with its job unless that was deleted.
    pub(super) fn new(import: MemberImport, job: Option<&Job>) -> Self {
        let settled = import.created + import.exists + import.refused;
        Self {
            id: import.id.to_string(),
            total: import.total,
            pending: import.total - settled,
            created: import.created,
            exists: import.exists,
            refused: import.refused,
            job: job.map(JobLink::from),
            requested_by: import.actor.id,
            created_at: import.created_at.into(),
            finished_at: import.finished_at.map(Timestamp::from),
        }
    }
}

/// Result of a dry run.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUserImportDryRun)]
pub(super) struct DryRunView {
    /// Number of rows.
    total: usize,
    /// Number of rows whose member would be created.
    created: usize,
    /// Number of rows whose member exists already.
    exists: usize,
    /// Number of rows that would be refused.
    refused: usize,
    /// Every row whose member would not be created.
    rows: Vec<RowView>,
}

impl DryRunView {
    /// The decided rows.
    pub(super) fn new(rows: &[ImportRow], now: DateTime) -> Self {
        let count = |outcome| rows.iter().filter(|row| row.outcome == outcome).count();
        let left = rows.iter().filter(|row| row.outcome != RowOutcome::Created);
        Self {
            total: rows.len(),
            created: count(RowOutcome::Created),
            exists: count(RowOutcome::Exists),
            refused: count(RowOutcome::Refused),
            rows: left.map(|row| RowView::new(row, now)).collect(),
        }
    }
}

/// A row of an import.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUserImportRow)]
pub(super) struct RowView {
    /// Position in the file, from 1.
    n: i64,
    /// Line of the file at which the row begins, from 1.
    line: i64,
    /// Login or local part as in the file.
    label: String,
    /// Outcome: `pending`, `created`, `exists` (the tenant has a member with this login) or `refused`.
    outcome: RowOutcome,
    /// Errors of the row, at most 10.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<RowErrorView>,
    /// Id of the member that was created, or exists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    member_id: Option<String>,
    /// The one-time password of a created member: `inFile` (to fetch), `fetched`, `expired` (never fetched: reset it), or
    /// `none` (the sign-in password belongs to the person).
    #[serde(skip_serializing_if = "Option::is_none")]
    one_time_password: Option<PasswordState>,
    /// Time at which a password that is not fetched expires.
    #[serde(skip_serializing_if = "Option::is_none")]
    password_expires_at: Option<Timestamp>,
    /// Time of processing.
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<Timestamp>,
}

/// State of the one-time password of a created member.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUserImportPasswordState)]
enum PasswordState {
    /// To be fetched.
    InFile,
    /// Was fetched.
    Fetched,
    /// Was never fetched.
    Expired,
    /// There is none.
    None,
}

/// Error of a row.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = TenantUserImportRowError)]
struct RowErrorView {
    /// JSON Pointer to the field, as in the body that creates one member. Missing for the row as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    /// Stable code.
    code: String,
    /// Explanation, for a human reader.
    message: String,
}

impl RowView {
    /// The row at `now`.
    pub(super) fn new(row: &ImportRow, now: DateTime) -> Self {
        let is_expired = row.password_expires_at.is_some_and(|at| at <= now);
        let one_time_password = match row.password {
            Some(RowPassword::InFile) if is_expired => Some(PasswordState::Expired),
            Some(RowPassword::InFile) => Some(PasswordState::InFile),
            Some(RowPassword::Fetched) => Some(PasswordState::Fetched),
            None if row.outcome == RowOutcome::Created && row.at.is_some() => {
                Some(PasswordState::None)
            }
            None => None,
        };
        let expires_at = row.password_expires_at;
        let expires_at = expires_at.filter(|_| row.password == Some(RowPassword::InFile));
        Self {
            n: row.n,
            line: row.line,
            label: row.label.clone(),
            outcome: row.outcome,
            errors: row.errors.iter().map(RowErrorView::from).collect(),
            member_id: row.member_id.map(|id| id.to_string()),
            one_time_password,
            password_expires_at: expires_at.map(Timestamp::from),
            at: row.at.map(Timestamp::from),
        }
    }
}

impl From<&RowError> for RowErrorView {
    fn from(error: &RowError) -> Self {
        let detail = || {
            let code = error.code.parse::<EnumName<ProblemCode>>();
            code.map_or("", |EnumName(code)| code.detail()).to_owned()
        };
        Self {
            pointer: error.pointer.clone(),
            code: error.code.clone(),
            message: error.message.clone().unwrap_or_else(detail),
        }
    }
}
