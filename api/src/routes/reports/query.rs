//! Selection of a report: its months, the filter of its tenants, and its arrangement.

use bson::DateTime;
use dezky_shared::{
    billing::{Plan, month::Month},
    report::{GroupBy, ReportName, RowOrder, SavedQuery},
};
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    extract::{FromQuery, Parameters},
    validate::{Violation, money},
};

/// Maximum number of months.
pub(super) const MAX_MONTHS: i32 = 36;
/// Number of months without `from`.
const DEFAULT_MONTHS: i32 = 12;

/// Maximum number of rows.
pub(super) const MAX_ROWS: i64 = 100;
/// Number of rows without `limit`.
const DEFAULT_ROWS: i64 = 50;

/// Filter and arrangement of a report.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ReportQuery {
    /// First month (UTC). Default: eleven months before `to`.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-01")]
    from: Option<Month>,
    /// Last month (UTC). Default: the current one.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
    to: Option<Month>,
    /// Currency (ISO 4217). Default: all.
    #[param(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: Option<String>,
    /// Plan: `starter`, `business` or `enterprise`. Default: all. For recurring revenue; other reports ignore it.
    plan: Option<Plan>,
    /// Grouping: `month`, `plan`, `tenant` or `partner`. Default: that of the report. `mrr` can be grouped by `plan`, and
    /// `partner-revenue` by `partner`.
    group_by: Option<GroupBy>,
    /// Order of the rows: a column, with `-` for the largest first. `cohorts` has `key` and `size`; `top-customers` has
    /// `key`, `arr` and `mrr`; `partner-revenue` by partner has `paid`, `accrued`, `reversed`, `adjusted` and `owed`.
    #[param(value_type = Option<String>, pattern = "^-?(key|size|arr|mrr|paid|accrued|reversed|adjusted|owed)$", example = "-paid")]
    sort: Option<RowOrder>,
    /// Maximum number of rows, in each currency. Default: 50.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<i64>,
}

impl FromQuery for ReportQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            from: parameters.take("from", "a month such as 2026-01")?,
            to: parameters.take("to", "a month such as 2026-11")?,
            currency: parameters.text("currency"),
            plan: parameters.take("plan", "starter, business or enterprise")?,
            group_by: parameters.take("groupBy", "month, plan, tenant or partner")?,
            sort: parameters.take("sort", "a column such as paid, or -paid")?,
            limit: parameters.take("limit", "a number")?,
        })
    }
}

/// Selection of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Selection {
    pub(super) report: ReportName,
    /// The months, in order.
    pub(super) months: Vec<Month>,
    pub(super) currency: Option<String>,
    pub(super) plan: Option<Plan>,
    /// Grouping; that of the report if it is missing.
    pub(super) group_by: Option<GroupBy>,
    /// Order of the rows; that of the report if it is missing.
    pub(super) order: Option<RowOrder>,
    /// Maximum number of rows of a currency.
    pub(super) limit: usize,
    pub(super) now: DateTime,
}

/// The grouping, if the report has it.
pub(super) fn grouping(report: ReportName, group_by: GroupBy) -> Result<GroupBy, Violation> {
    let all = report.groupings();
    if all.contains(&group_by) {
        return Ok(group_by);
    }
    let names: Vec<&str> = all.iter().map(|it| it.name()).collect();
    Err(not_supported(report, "grouped by", &names))
}

/// The order of rows, if the report in this grouping has such rows.
pub(super) fn row_order(
    report: ReportName,
    group_by: Option<GroupBy>,
    order: RowOrder,
) -> Result<RowOrder, Violation> {
    let all = report.columns(group_by);
    if all.contains(&order.column) {
        return Ok(order);
    }
    let names: Vec<&str> = all.iter().map(|it| it.name()).collect();
    Err(not_supported(report, "sorted by", &names))
}

fn not_supported(report: ReportName, arranged: &str, names: &[&str]) -> Violation {
    let report = report.name();
    let message = if names.is_empty() {
        format!("{report} cannot be {arranged} anything.")
    } else {
        format!("{report} can be {arranged} {}.", names.join(", "))
    };
    ("not_supported", message)
}

/// The number of rows.
pub(super) fn row_limit(count: i64) -> Result<i32, Violation> {
    let count = i32::try_from(count).ok();
    let count = count.filter(|count| (1..=MAX_ROWS).contains(&i64::from(*count)));
    count.ok_or_else(|| ("out_of_range", format!("Must be 1–{MAX_ROWS}.")))
}

fn invalid(parameter: &str, (code, message): Violation) -> ApiError {
    ApiError::invalid(vec![FieldError::parameter(parameter, code, message)])
}

/// The first of `count` months up to `last`.
fn first_of(count: i32, last: Month) -> Month {
    (1..count).fold(last, |month, _| month.previous())
}

impl ReportQuery {
    /// Selection of a saved report at `now`.
    pub(super) fn saved(query: &SavedQuery, now: DateTime) -> Self {
        let last = query.last.map(|count| first_of(count, Month::of(now)));
        Self {
            from: last.or(query.from),
            to: query.to,
            currency: query.currency.clone(),
            plan: query.plan,
            group_by: query.group_by,
            sort: query.sort,
            limit: query.limit.map(i64::from),
        }
    }

    /// The months and filters of a report at `now`.
    pub(super) fn selection(
        self,
        report: ReportName,
        now: DateTime,
    ) -> Result<Selection, ApiError> {
        if let Some(text) = &self.currency {
            let checked = money::currency(text);
            checked.map_err(|violation| invalid("currency", violation))?;
        }
        if let Some(group_by) = self.group_by {
            let checked = grouping(report, group_by);
            checked.map_err(|violation| invalid("groupBy", violation))?;
        }
        if let Some(order) = self.sort {
            let checked = row_order(report, self.group_by, order);
            checked.map_err(|violation| invalid("sort", violation))?;
        }
        let limit = row_limit(self.limit.unwrap_or(DEFAULT_ROWS));
        let limit = limit.map_err(|violation| invalid("limit", violation))?;
        let to = self.to.unwrap_or_else(|| Month::of(now));
        let from = self.from.unwrap_or_else(|| first_of(DEFAULT_MONTHS, to));
        let count = from.months_until(to) + 1;
        if count < 1 {
            let message = "to must not be before from.".to_owned();
            return Err(invalid("to", ("out_of_range", message)));
        }
        if count > MAX_MONTHS {
            return Err(ProblemCode::ReportTooLong.into());
        }
        let months = std::iter::successors(Some(from), |month| Some(month.next()));
        Ok(Selection {
            report,
            months: months.take_while(|month| *month <= to).collect(),
            currency: self.currency,
            plan: self.plan,
            group_by: self.group_by,
            order: self.sort,
            limit: usize::try_from(limit).unwrap_or_default(),
            now,
        })
    }
}

impl Selection {
    /// Whether the report covers amounts in this currency.
    pub(super) fn covers(&self, currency: &str) -> bool {
        self.currency.as_ref().is_none_or(|only| only == currency)
    }

    /// The last month.
    pub(super) fn last(&self) -> Month {
        self.months.last().copied().unwrap_or(Month::of(self.now))
    }
}
