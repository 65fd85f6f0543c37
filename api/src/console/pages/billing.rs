//! Billing of a month, and the last invoice runs.

use axum::response::Response;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Field,
        page_request::PageRequest,
        query::path_with,
        table::{Cell, Table},
        text::amount,
    },
    List, ListPage,
    jobs::JobRow,
};

/// The last invoice runs.
const RUNS: &str = "/jobs?kind=run_invoices&limit=10";

/// Billing of a month.
#[derive(Debug, Deserialize)]
struct Summary {
    month: String,
    complete: bool,
    currencies: Vec<Amounts>,
}

/// Amounts in one currency.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Amounts {
    currency: String,
    exponent: u8,
    mrr_minor: Option<i64>,
    billed_minor: i64,
    voided_minor: i64,
    paid_minor: i64,
    accrued_minor: i64,
    reversed_minor: i64,
    adjusted_minor: i64,
    platform_minor: Option<i64>,
}

impl Amounts {
    fn row(&self) -> [Cell; 9] {
        let cell = |minor| Cell::text(amount(minor, self.exponent, &self.currency));
        [
            Cell::text(&self.currency),
            self.mrr_minor.map(cell).unwrap_or_default(),
            cell(self.billed_minor),
            cell(self.voided_minor),
            cell(self.paid_minor),
            cell(self.accrued_minor),
            cell(self.reversed_minor),
            cell(self.adjusted_minor),
            self.platform_minor.map(cell).unwrap_or_default(),
        ]
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let summary = path_with("/billing/summary", &request.parameters, &["month"], &[]);
    let (summary, runs) = tokio::try_join!(
        request.get::<Summary>(&summary),
        request.get::<List<JobRow>>(RUNS),
    )?;
    let frame = request.frame("/console/billing", "Billing")?;
    let state = if summary.complete { "" } else { " so far" };
    let table = Table::new(
        format!("Net amounts of {}{state}", summary.month),
        [
            "Currency",
            "Monthly recurring revenue",
            "Billed",
            "Voided",
            "Paid",
            "Partners' shares",
            "Taken back",
            "Adjusted",
            "Kept by the platform",
        ],
        summary.currencies.iter().map(Amounts::row),
        "Nothing was billed or paid in this month.",
    );
    let month = request.text("month");
    let runs = JobRow::table(
        "Invoice runs, newest first",
        &runs.items,
        "There is no invoice run yet.",
    );
    let page = ListPage::new(frame, table)
        .with_link("/console/invoices", "Invoices")
        .with_link("/console/payouts", "Payouts")
        .with_link("/console/schedules", "Start an invoice run")
        .with_filters(vec![Field::text("Month, such as 2026-11", "month", month)])
        .with_table(runs);
    Ok(page.respond())
}
