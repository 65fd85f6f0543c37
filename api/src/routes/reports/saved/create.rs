//! Saving of a report.

use dezky_shared::{
    audit::Action,
    billing::month::Month,
    id::SavedReportId,
    report::{GroupBy, MAX_SAVED, ReportName, RowColumn, RowOrder, SavedQuery, SavedReport},
    store::VersionedRepository as _,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Owner, SavedReportView, respond, target};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{Operator, PartnerAccess, ReadWrite, Validate},
    response::ApiResponse,
    routes::reports::query::{MAX_MONTHS, ReportQuery, grouping, row_limit, row_order},
    validate::{self, Validator, Violation, money},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields},
};

/// A report to save.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SavedReportCreate)]
pub(super) struct CreateRequest {
    /// Name, unique among the caller's saved reports.
    #[schema(min_length = 1, max_length = 120)]
    name: String,
    /// Report: `mrr`, `growth`, `cohorts`, `top-customers`, `revenue-by-plan`, `health` or `partner-revenue`.
    #[schema(value_type = ReportName)]
    report: String,
    /// Number of months up to the current one, instead of `from` and `to`.
    #[schema(minimum = 1, maximum = 36)]
    last: Option<i64>,
    /// First month (UTC). Default: as for the report.
    #[schema(pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-01")]
    from: Option<String>,
    /// Last month (UTC). Default: as for the report.
    #[schema(pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
    to: Option<String>,
    /// Currency (ISO 4217). Default: all.
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: Option<String>,
    /// Plan: `starter`, `business` or `enterprise`. Default: all.
    #[schema(value_type = Option<dezky_shared::billing::Plan>)]
    plan: Option<String>,
    /// Grouping: `month`, `plan`, `tenant` or `partner`. Default: that of the report.
    #[schema(value_type = Option<GroupBy>)]
    group_by: Option<String>,
    /// Order of the rows: a column, with `-` for the largest first. Default: that of the report.
    #[schema(
        pattern = "^-?(key|size|arr|mrr|paid|accrued|reversed|adjusted|owed)$",
        example = "-paid"
    )]
    sort: Option<String>,
    /// Maximum number of rows, in each currency. Default: 50.
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<i64>,
}

/// A validated report to save.
#[derive(Debug)]
pub(super) struct NewSavedReport {
    name: String,
    query: SavedQuery,
}

impl Validate for NewSavedReport {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let name = validator.check("/name", validate::name(&raw.name));
        let report = validator.check("/report", report(&raw.report));
        let last = raw
            .last
            .and_then(|count| validator.check("/last", last(count)));
        let from = raw
            .from
            .as_ref()
            .and_then(|text| validator.check("/from", month(text)));
        let to = raw
            .to
            .as_ref()
            .and_then(|text| validator.check("/to", month(text)));
        if last.is_some() && (from.is_some() || to.is_some()) {
            let message = "Set either last, or from and to.";
            validator.push(FieldError::at("/last", "not_supported", message));
        }
        let currency = raw
            .currency
            .and_then(|text| validator.check("/currency", money::currency(&text)));
        let plan = raw
            .plan
            .and_then(|text| validator.check("/plan", validate::plan(&text)));
        let group_by = raw
            .group_by
            .and_then(|text| validator.check("/groupBy", group_by(&text)));
        let sort = raw
            .sort
            .and_then(|text| validator.check("/sort", sort(&text)));
        let limit = raw
            .limit
            .and_then(|count| validator.check("/limit", row_limit(count)));
        if let Some(report) = report {
            if let Some(group_by) = group_by {
                validator.check("/groupBy", grouping(report, group_by));
            }
            if let Some(order) = sort {
                validator.check("/sort", row_order(report, group_by, order));
            }
        }
        validator.build(|| {
            Some(Self {
                name: name?,
                query: SavedQuery {
                    report: report?,
                    last,
                    from,
                    to,
                    currency,
                    plan,
                    group_by,
                    sort,
                    limit,
                },
            })
        })
    }
}

fn report(text: &str) -> Result<ReportName, Violation> {
    text.parse().map_err(|()| {
        let names = ReportName::ALL.map(ReportName::name).join(", ");
        ("invalid", format!("Must be one of {names}."))
    })
}

fn group_by(text: &str) -> Result<GroupBy, Violation> {
    text.parse().map_err(|_| {
        let names = GroupBy::ALL.map(GroupBy::name).join(", ");
        ("invalid", format!("Must be one of {names}."))
    })
}

fn sort(text: &str) -> Result<RowOrder, Violation> {
    text.parse().map_err(|_| {
        let names = RowColumn::ALL.map(RowColumn::name).join(", ");
        (
            "invalid",
            format!("Must be one of {names}, with - for the largest first."),
        )
    })
}

fn last(count: i64) -> Result<i32, Violation> {
    let count = i32::try_from(count).ok();
    let count = count.filter(|count| (1..=MAX_MONTHS).contains(count));
    count.ok_or_else(|| ("out_of_range", format!("Must be 1–{MAX_MONTHS}.")))
}

fn month(text: &str) -> Result<Month, Violation> {
    text.parse()
        .map_err(|_| ("invalid", "Must be a month such as 2026-11.".to_owned()))
}

/// Saves a report on all tenants for the caller
///
/// At most 50, each with another name.
#[utoipa::path(
    post, path = "/reports/saved", operation_id = "createSavedReport", tag = "reports",
    request_body = CreateRequest,
    responses((status = 201, body = SavedReportView)),
)]
pub(super) async fn create(w: Write<Operator, NewSavedReport>) -> Result<ApiResponse, ApiError> {
    let create = Create {
        owner: Owner::operator(&w.access.0),
        path: "/reports/saved",
        id: SavedReportId::new(),
        new: &w.body,
    };
    create.ensure_valid(w.app.store.now())?;
    w.run(&create).await
}

/// Saves a report on the tenants of the caller's partner for the caller
///
/// For staff with write access. At most 50, each with another name.
#[utoipa::path(
    post, path = "/partner/reports/saved", operation_id = "createOwnSavedReport", tag = "reports",
    request_body = CreateRequest,
    responses((status = 201, body = SavedReportView)),
)]
pub(super) async fn create_own(
    w: Write<PartnerAccess<ReadWrite>, NewSavedReport>,
) -> Result<ApiResponse, ApiError> {
    let create = Create {
        owner: Owner::from(&w.access),
        path: "/partner/reports/saved",
        id: SavedReportId::new(),
        new: &w.body,
    };
    create.ensure_valid(w.app.store.now())?;
    w.run(&create).await
}

struct Create<'a> {
    owner: Owner,
    path: &'static str,
    id: SavedReportId,
    new: &'a NewSavedReport,
}

impl Create<'_> {
    /// Rejects a report that could not be run.
    fn ensure_valid(&self, now: bson::DateTime) -> Result<(), ApiError> {
        let query = &self.new.query;
        ReportQuery::saved(query, now).selection(query.report, now)?;
        Ok(())
    }
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (app, now) = (runner.app, runner.app.store.now());
        let Owner { user, scope } = self.owner;
        // Concurrent requests must not exceed the limit together.
        app.db.users.materialize_conflict(session, user).await?;
        let repository = &app.db.saved_reports;
        if repository.count_in(session, user, scope).await? >= MAX_SAVED {
            return Err(ProblemCode::TooManySavedReports.into());
        }
        let report = SavedReport {
            id: self.id,
            owner_id: user,
            scope: scope.to_string(),
            name: self.new.name.clone(),
            query: self.new.query.clone(),
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        repository.insert(session, &report).await?;
        let event = runner
            .event(now, Action::SavedReportCreate, target(&report), None)
            .with_changes(&bson::Document::new(), &audited_fields(&report)?);
        let location = format!("{}/{}", self.path, self.id);
        let mut response = respond(report).at(location);
        response.status = StatusCode::CREATED;
        Ok(CommandOutput::complete(response, event))
    }
}
