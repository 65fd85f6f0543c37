//! Building of reports from the sums of months.

mod customers;
mod partners;
mod revenue;
mod shares;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
};

use dezky_shared::{
    billing::month::Month,
    billing_totals::Scope,
    money::exponent,
    report::{GroupBy, ReportMonth, ReportName, RowColumn, RowOrder},
    store::report_months::Part,
};

use super::{
    query::Selection,
    view::{CurrencyReport, ReportView, Row, Series},
};
use crate::{error::ApiError, state::AppState};

/// The sums of the selected months. A month has none if there are no snapshots of it.
pub(super) struct Months {
    sums: BTreeMap<Month, ReportMonth>,
}

/// A report without its frame.
#[derive(Default)]
pub(super) struct Body {
    currencies: BTreeMap<String, (Vec<Series>, Vec<Row>)>,
    series: Vec<Series>,
    rows: Vec<Row>,
}

/// Builds the report.
pub(super) async fn build(
    app: &AppState,
    scope: Scope,
    selection: &Selection,
) -> Result<ReportView, ApiError> {
    let (part, months) = match selection.report {
        ReportName::Cohorts => (Part::Cohorts, selection.months.clone()),
        ReportName::TopCustomers | ReportName::Health => (Part::All, vec![selection.last()]),
        _ => (Part::Revenue, selection.months.clone()),
    };
    let months = Months::read(app, scope, &months, part).await?;
    let mut body = match selection.report {
        ReportName::Mrr => revenue::mrr(&months, selection),
        ReportName::Growth => revenue::growth(&months, selection),
        ReportName::Cohorts => customers::cohorts(&months, selection),
        ReportName::TopCustomers => customers::top(&months, selection),
        ReportName::Health => customers::health(&months, selection),
        ReportName::RevenueByPlan => shares::by_plan(app, scope, &months, selection).await?,
        ReportName::PartnerRevenue if selection.group_by == Some(GroupBy::Partner) => {
            partners::revenue(app, scope, selection).await?
        }
        ReportName::PartnerRevenue => shares::of_partners(app, scope, selection).await?,
    };
    body.arrange(selection);
    let newest = months.sums.values().map(|sums| sums.as_of).max();
    let is_over = |month: &Month| month.end() <= selection.now;
    let is_final = months.sums.values().all(ReportMonth::is_complete);
    let currencies = body.currencies.into_iter();
    Ok(ReportView {
        report: selection.report,
        as_of: newest.map(Into::into),
        time_zone: "UTC",
        complete: is_final && selection.months.iter().all(is_over),
        currencies: currencies
            .map(|(currency, (series, rows))| CurrencyReport {
                exponent: exponent(&currency),
                currency,
                series,
                rows,
            })
            .collect(),
        series: body.series,
        rows: body.rows,
    })
}

impl Months {
    /// A partner without tenants has no sums of a month of which there are snapshots; they are those of nothing.
    async fn read(
        app: &AppState,
        scope: Scope,
        months: &[Month],
        part: Part,
    ) -> Result<Self, ApiError> {
        let repository = &app.db.report_months;
        let (platform, own) = match scope {
            Scope::Platform => (repository.list(scope, months, part).await?, Vec::new()),
            Scope::Partner(_) => tokio::try_join!(
                repository.list(Scope::Platform, months, Part::Existence),
                repository.list(scope, months, part),
            )?,
        };
        let by_month = |sums: Vec<ReportMonth>| sums.into_iter().map(|it| (it.month, it));
        let mut sums: BTreeMap<Month, ReportMonth> = by_month(platform).collect();
        sums.extend(by_month(own));
        Ok(Self { sums })
    }

    fn get(&self, month: Month) -> Option<&ReportMonth> {
        self.sums.get(&month)
    }

    /// The currencies in which anything was paid.
    fn currencies<'a>(&'a self, selection: &'a Selection) -> impl Iterator<Item = &'a str> {
        let all = self.sums.values().flat_map(|sums| sums.currencies.keys());
        let all: BTreeSet<&str> = all.map(String::as_str).collect();
        all.into_iter()
            .filter(move |currency| selection.covers(currency))
    }

    /// A value of each selected month; `None` without snapshots.
    fn values<'a>(
        &'a self,
        selection: &'a Selection,
        value: impl Fn(&ReportMonth) -> Option<i64> + 'a,
    ) -> impl Iterator<Item = (Month, Option<i64>)> + 'a {
        let months = selection.months.iter();
        months.map(move |month| (*month, self.get(*month).and_then(&value)))
    }
}

impl Body {
    fn add_series(&mut self, currency: &str, series: impl IntoIterator<Item = Series>) {
        let of_currency = self.currencies.entry(currency.to_owned()).or_default();
        of_currency.0.extend(series);
    }

    /// Orders the rows, and keeps the first ones of each currency.
    fn arrange(&mut self, selection: &Selection) {
        let of_currencies = self.currencies.values_mut().map(|(_, rows)| rows);
        for rows in of_currencies.chain([&mut self.rows]) {
            if let Some(order) = selection.order {
                rows.sort_by(|one, other| compare(order, one, other));
            }
            rows.truncate(selection.limit);
        }
    }

    fn add_rows(&mut self, currency: &str, rows: impl IntoIterator<Item = Row>) {
        let of_currency = self.currencies.entry(currency.to_owned()).or_default();
        of_currency.1.extend(rows);
    }
}

/// Order of two rows. Those without a value are the smallest.
fn compare(order: RowOrder, one: &Row, other: &Row) -> Ordering {
    let ascending = if order.column == RowColumn::Key {
        one.key.cmp(&other.key)
    } else {
        let name = order.column.name();
        one.value(name).cmp(&other.value(name))
    };
    if order.is_descending {
        ascending.reverse()
    } else {
        ascending
    }
}
