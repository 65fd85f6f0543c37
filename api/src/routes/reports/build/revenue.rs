//! Recurring revenue: its movements, its rates, and its growth.
//!
//! Movements are yearly amounts, which add up exactly in every month. Recurring revenue is a month's share of them, rounded
//! once.

use dezky_shared::{
    billing::{Plan, month::Month, monthly_equivalent},
    report::{Amount, GroupBy, Movements, ReportMonth},
};

use super::{Body, Months};
use crate::routes::reports::{
    query::Selection,
    view::{Series, Unit},
};

/// An amount of the movements: key, label, value.
type OfMovements = (&'static str, &'static str, fn(&Movements) -> Amount);
/// A rate of the movements: key, label, value.
type Rate = (&'static str, &'static str, fn(&Movements) -> Option<i64>);

const MOVEMENTS: [OfMovements; 9] = [
    ("arrStart", "Yearly revenue at the start", |it| it.start),
    ("new", "New", |it| it.new),
    ("reactivation", "Reactivation", |it| it.reactivation),
    ("expansion", "Expansion", |it| it.expansion),
    ("transferIn", "Transfer in", |it| it.transfer_in),
    ("contraction", "Contraction", |it| it.contraction),
    ("churn", "Churn", |it| it.churn),
    ("transferOut", "Transfer out", |it| it.transfer_out),
    ("arrEnd", "Yearly revenue at the end", |it| it.end),
];
const RATES: [Rate; 3] = [
    ("logoChurn", "Logo churn", Movements::logo_churn),
    ("grossChurn", "Gross churn", Movements::gross_churn),
    (
        "netRetention",
        "Net revenue retention",
        Movements::net_retention,
    ),
];

/// Plans that are reported together: all, one, or each by itself under its own name.
#[derive(Debug, Clone, Copy)]
struct Segment {
    plan: Option<Plan>,
    is_named: bool,
}

impl Segment {
    /// All selected plans.
    fn whole(selection: &Selection) -> Self {
        Self {
            plan: selection.plan,
            is_named: false,
        }
    }

    fn all(selection: &Selection) -> Vec<Self> {
        if selection.group_by != Some(GroupBy::Plan) {
            return vec![Self::whole(selection)];
        }
        let plans = Plan::ALL.into_iter();
        let plans = plans.filter(|plan| selection.plan.is_none_or(|only| only == *plan));
        let each = plans.map(|plan| Self {
            plan: Some(plan),
            is_named: true,
        });
        each.collect()
    }

    fn series(
        self,
        key: &str,
        label: &str,
        unit: Unit,
        values: impl IntoIterator<Item = (Month, Option<i64>)>,
    ) -> Series {
        match self.plan.filter(|_| self.is_named) {
            None => Series::new(key, label, unit, values),
            Some(plan) => {
                let label = format!("{label}, {}", plan.title());
                Series::new(format!("{key}.{plan}"), label, unit, values)
            }
        }
    }
}

/// Recurring revenue with its movements and rates.
pub(super) fn mrr(months: &Months, selection: &Selection) -> Body {
    let mut body = Body::default();
    for currency in months.currencies(selection) {
        for segment in Segment::all(selection) {
            let of = |sums: &ReportMonth| movements(sums, currency, segment.plan);
            let amounts = MOVEMENTS.map(|(key, label, amount)| {
                let values = months.values(selection, |sums| Some(amount(&of(sums)).arr_minor));
                segment.series(key, label, Unit::Minor, values)
            });
            let rates = RATES.map(|(key, label, rate)| {
                let values = months.values(selection, |sums| rate(&of(sums)));
                segment.series(key, label, Unit::BasisPoints, values)
            });
            body.add_series(currency, [recurring(months, selection, currency, segment)]);
            body.add_series(currency, amounts);
            body.add_series(currency, rates);
        }
    }
    body
}

/// Numbers of tenants, and recurring revenue.
pub(super) fn growth(months: &Months, selection: &Selection) -> Body {
    let mut body = Body::default();
    let count = |key: &str, label: &str, value: fn(&ReportMonth) -> i64| {
        let values = months.values(selection, move |sums| Some(value(sums)));
        Series::new(key, label, Unit::Count, values)
    };
    body.series = vec![
        count("tenants", "Tenants", |sums| sums.tenants),
        count("paying", "Paying tenants", |sums| sums.paying),
    ];
    let whole = Segment::whole(selection);
    for currency in months.currencies(selection) {
        body.add_series(currency, [recurring(months, selection, currency, whole)]);
    }
    body
}

fn recurring(months: &Months, selection: &Selection, currency: &str, segment: Segment) -> Series {
    let value = |sums: &ReportMonth| {
        let end = movements(sums, currency, segment.plan).end;
        Some(monthly_equivalent(end.arr_minor))
    };
    segment.series("mrr", "MRR", Unit::Minor, months.values(selection, value))
}

/// Movements in a currency, of one plan or of all. None are movements of nothing.
pub(super) fn movements(sums: &ReportMonth, currency: &str, plan: Option<Plan>) -> Movements {
    let Some(of_currency) = sums.currencies.get(currency) else {
        return Movements::default();
    };
    match plan {
        None => of_currency.total,
        Some(plan) => of_currency
            .plans
            .get(plan.name())
            .copied()
            .unwrap_or_default(),
    }
}
