//! List of reports.

use axum::response::Response;
use dezky_shared::report::ReportName;

use super::{
    super::{
        failure::Failure,
        page_request::PageRequest,
        table::{Cell, Table},
    },
    ListPage,
};

/// Title of a report, and what it contains.
pub(super) fn description(report: ReportName) -> (&'static str, &'static str) {
    match report {
        ReportName::Mrr => (
            "Monthly recurring revenue",
            "Recurring revenue, its movements and its rates.",
        ),
        ReportName::Growth => ("Growth", "Tenants, those that pay, and recurring revenue."),
        ReportName::Cohorts => (
            "Cohorts",
            "Tenants that stay and leave, by the month in which they paid first.",
        ),
        ReportName::TopCustomers => ("Top customers", "The customers that pay most."),
        ReportName::RevenueByPlan => ("Revenue by plan", "Recurring revenue and payments by plan."),
        ReportName::Health => ("Health of tenants", "Tenants by state."),
        ReportName::PartnerRevenue => ("Revenue of partners", "Partners' shares of payments."),
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let frame = request.frame("/console/reports", "Reports")?;
    let row = |report: ReportName| {
        let (title, contents) = description(report);
        let path = format!("/console/reports/{}", report.name());
        [Cell::link(path, title), Cell::text(contents)]
    };
    let table = Table::new(
        "Reports on all tenants, by month and currency",
        ["Report", "Contents"],
        ReportName::ALL.map(row),
        "There is no report.",
    );
    Ok(ListPage::new(frame, table).respond())
}
