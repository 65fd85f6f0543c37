//! Selection of a report: its months, and the filter of its tenants.

use bson::DateTime;
use dezky_shared::{
    billing::{Plan, month::Month},
    report::{ReportName, SavedQuery},
};
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldError, ProblemCode},
    extract::{FromQuery, Parameters},
    validate::money,
};

/// Maximum number of months.
pub(super) const MAX_MONTHS: i32 = 36;
/// Number of months without `from`.
const DEFAULT_MONTHS: i32 = 12;

/// Filter of a report.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
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
}

impl FromQuery for ReportQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            from: parameters.take("from", "a month such as 2026-01")?,
            to: parameters.take("to", "a month such as 2026-11")?,
            currency: parameters.text("currency"),
            plan: parameters.take("plan", "starter, business or enterprise")?,
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
    pub(super) now: DateTime,
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
        }
    }

    /// The months and filters of a report at `now`.
    pub(super) fn selection(
        self,
        report: ReportName,
        now: DateTime,
    ) -> Result<Selection, ApiError> {
        let invalid = |name: &str, code: &str, message: &str| {
            ApiError::invalid(vec![FieldError::parameter(name, code, message)])
        };
        if let Some(text) = &self.currency {
            let checked = money::currency(text);
            checked.map_err(|(code, message)| invalid("currency", code, &message))?;
        }
        let to = self.to.unwrap_or_else(|| Month::of(now));
        let from = self.from.unwrap_or_else(|| first_of(DEFAULT_MONTHS, to));
        let count = from.months_until(to) + 1;
        if count < 1 {
            return Err(invalid("to", "out_of_range", "to must not be before from."));
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
