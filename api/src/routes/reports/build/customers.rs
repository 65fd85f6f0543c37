//! Customers: those that pay most, cohorts, and states.

use dezky_shared::{
    billing::{Plan, month::Month, monthly_equivalent},
    report::{HealthReason, ReportMonth, share},
};

use super::{Body, Months};
use crate::routes::reports::{
    query::Selection,
    view::{Cell, Row, Unit},
};

/// The customers that pay most at the end of the last month, by currency.
pub(super) fn top(months: &Months, selection: &Selection) -> Body {
    let mut body = Body::default();
    let Some(sums) = months.get(selection.last()) else {
        return body;
    };
    for (currency, customers) in &sums.top {
        if !selection.covers(currency) {
            continue;
        }
        let rows = customers.iter().map(|customer| Row {
            key: customer.slug.clone(),
            label: title(&customer.plan).to_owned(),
            cells: vec![
                Cell::new("arr", Unit::Minor, Some(customer.arr_minor)),
                Cell::new(
                    "mrr",
                    Unit::Minor,
                    Some(monthly_equivalent(customer.arr_minor)),
                ),
            ],
        });
        body.add_rows(currency, rows);
    }
    body
}

/// Title of the plan with this name; the name itself of a plan that a newer build has added.
fn title(plan: &str) -> &str {
    let mut known = Plan::ALL.into_iter();
    if let Some(known) = known.find(|known| known.name() == plan) {
        known.title()
    } else {
        plan
    }
}

/// Tenants by state at the end of the last month, with their recurring revenue.
pub(super) fn health(months: &Months, selection: &Selection) -> Body {
    let mut body = Body::default();
    let Some(sums) = months.get(selection.last()) else {
        return body;
    };
    for reason in HealthReason::ALL {
        let Some(count) = sums.health.get(reason.name()) else {
            continue;
        };
        let row = |cells| Row {
            key: reason.name().to_owned(),
            label: label(reason).to_owned(),
            cells,
        };
        let tenants = Cell::new("tenants", Unit::Count, Some(count.tenants));
        body.rows.push(row(vec![tenants]));
        for (currency, arr_minor) in &count.arr_minor {
            if selection.covers(currency) {
                let mrr = Cell::new("mrr", Unit::Minor, Some(monthly_equivalent(*arr_minor)));
                body.add_rows(currency, [row(vec![mrr])]);
            }
        }
    }
    body
}

const fn label(reason: HealthReason) -> &'static str {
    match reason {
        HealthReason::Terminating => "Being removed",
        HealthReason::Suspended => "Suspended",
        HealthReason::PastDue => "Invoice overdue",
        HealthReason::NoSubscription => "Without a subscription",
        HealthReason::FreeOfCharge => "Free of charge",
        HealthReason::Paying => "Paying",
    }
}

/// For the tenants that paid first in each month: how many there were, and which share pays, and stopped paying, in each
/// month since.
pub(super) fn cohorts(months: &Months, selection: &Selection) -> Body {
    let mut body = Body::default();
    for first in &selection.months {
        let count = |month: Month| months.get(month).map(|sums| cohort(sums, *first));
        let Some((size, _)) = count(*first) else {
            continue;
        };
        if size == 0 {
            continue;
        }
        let mut cells = vec![Cell::new("size", Unit::Count, Some(size))];
        let since = selection.months.iter().filter(|month| *month >= first);
        for (index, month) in since.enumerate() {
            let counted = count(*month);
            let paying = counted.and_then(|(paying, _)| share(paying, size));
            let churned = counted.and_then(|(_, churned)| share(churned, size));
            cells.push(Cell::new(
                format!("paying.{index}"),
                Unit::BasisPoints,
                paying,
            ));
            cells.push(Cell::new(
                format!("churned.{index}"),
                Unit::BasisPoints,
                churned,
            ));
        }
        body.rows.push(Row {
            key: first.to_string(),
            label: first.to_string(),
            cells,
        });
    }
    body
}

/// Those of the tenants that paid first in `first` that pay, and that stopped paying in the month.
fn cohort(sums: &ReportMonth, first: Month) -> (i64, i64) {
    let cohort = sums.cohorts.get(&first.to_string());
    cohort.map_or((0, 0), |cohort| (cohort.paying, cohort.churned))
}
