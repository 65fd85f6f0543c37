//! Payments by plan, and the partners' shares of them, from the monthly totals of billing.

use std::collections::{BTreeMap, BTreeSet};

use dezky_shared::{
    billing::{Plan, month::Month, monthly_equivalent},
    billing_totals::{MonthTotals, Scope, WITHOUT_PLAN},
};

use super::{Body, Months, revenue::movements};
use crate::{
    error::ApiError,
    routes::reports::{
        query::Selection,
        view::{Series, Unit},
    },
    state::AppState,
};

/// Amount of the totals: key, label, value.
pub(super) type OfTotals = (&'static str, &'static str, fn(&MonthTotals) -> i64);

/// Amounts of partners. The key is that of the series or of the column.
pub(super) const OF_PARTNERS: [OfTotals; 5] = [
    ("paid", "Paid", |it| it.paid_minor),
    ("accrued", "Credited to partners", |it| it.accrued_minor),
    ("reversed", "Taken back", |it| it.reversed_minor),
    ("adjusted", "Adjusted", |it| it.adjusted_minor),
    ("owed", "Owed to partners", MonthTotals::partner_share_minor),
];

/// Totals of the selected months, by currency. Months that have not begun have none.
struct Totals {
    by_month: BTreeMap<(String, Month), MonthTotals>,
}

impl Totals {
    async fn read(app: &AppState, scope: Scope, selection: &Selection) -> Result<Self, ApiError> {
        let (Some(from), Some(through)) = (selection.months.first(), selection.months.last())
        else {
            return Ok(Self {
                by_month: BTreeMap::new(),
            });
        };
        let totals = app.db.billing_totals.list(scope, *from, *through).await?;
        let key = |it: MonthTotals| ((it.currency.clone(), it.month), it);
        let covered = totals
            .into_iter()
            .filter(|it| selection.covers(&it.currency));
        Ok(Self {
            by_month: covered.map(key).collect(),
        })
    }

    fn currencies(&self) -> BTreeSet<String> {
        let keys = self.by_month.keys();
        keys.map(|(currency, _)| currency.clone()).collect()
    }

    fn values(
        &self,
        selection: &Selection,
        currency: &str,
        value: impl Fn(&MonthTotals) -> i64,
    ) -> Vec<(Month, Option<i64>)> {
        let this_month = Month::of(selection.now);
        let of_month = |month: Month| {
            let totals = self.by_month.get(&(currency.to_owned(), month));
            (month <= this_month).then(|| totals.map_or(0, &value))
        };
        let months = selection.months.iter();
        months.map(|month| (*month, of_month(*month))).collect()
    }
}

/// Recurring revenue and payments of each plan.
pub(super) async fn by_plan(
    app: &AppState,
    scope: Scope,
    months: &Months,
    selection: &Selection,
) -> Result<Body, ApiError> {
    let totals = Totals::read(app, scope, selection).await?;
    let mut body = Body::default();
    let mut currencies = totals.currencies();
    currencies.extend(months.currencies(selection).map(str::to_owned));
    let plans = Plan::ALL.into_iter();
    let plans = plans.filter(|plan| selection.plan.is_none_or(|only| only == *plan));
    let plans: Vec<Plan> = plans.collect();
    for currency in &currencies {
        let recurring = plans.iter().map(|plan| {
            let values = months.values(selection, |sums| {
                let end = movements(sums, currency, Some(*plan)).end;
                Some(monthly_equivalent(end.arr_minor))
            });
            let label = format!("MRR, {}", plan.title());
            Series::new(format!("mrr.{plan}"), label, Unit::Minor, values)
        });
        body.add_series(currency, recurring);
        let paid = plans.iter().map(|plan| (plan.name(), plan.title()));
        let other = selection.plan.is_none().then_some((WITHOUT_PLAN, "other"));
        let paid = paid.chain(other).map(|(plan, title)| {
            let paid = |it: &MonthTotals| it.paid_by_plan.get(plan).copied().unwrap_or(0);
            let values = totals.values(selection, currency, paid);
            let key = format!("paid.{plan}");
            Series::new(key, format!("Paid, {title}"), Unit::Minor, values)
        });
        body.add_series(currency, paid);
    }
    Ok(body)
}

/// Payments, and the shares of them that partners are owed.
pub(super) async fn of_partners(
    app: &AppState,
    scope: Scope,
    selection: &Selection,
) -> Result<Body, ApiError> {
    let totals = Totals::read(app, scope, selection).await?;
    let mut body = Body::default();
    for currency in totals.currencies() {
        let series = OF_PARTNERS.map(|(key, label, value)| {
            let values = totals.values(selection, &currency, value);
            Series::new(key, label, Unit::Minor, values)
        });
        body.add_series(&currency, series);
    }
    Ok(body)
}
