//! List of tenants.

use axum::response::Response;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Field,
        page_request::PageRequest,
        table::{Cell, Table},
        text::State as Word,
    },
    List, ListPage,
};

/// Parameters of the list.
const FILTERS: [&str; 3] = ["q", "status", "health"];
/// Statuses of tenants.
const STATUSES: [&str; 5] = [
    "pending",
    "active",
    "suspended",
    "terminating",
    "terminated",
];
/// Healths of tenants.
const HEALTHS: [&str; 3] = ["healthy", "attention", "critical"];

/// A tenant in a list.
#[derive(Debug, Deserialize)]
pub(super) struct TenantRow {
    slug: String,
    name: String,
    status: Word,
    plan: String,
    domains: Vec<String>,
    health: Option<Health>,
}

/// Health of a tenant.
#[derive(Debug, Deserialize)]
pub(super) struct Health {
    pub(super) status: Word,
    pub(super) reasons: Vec<HealthReason>,
}

/// A reason why a tenant is not healthy.
#[derive(Debug, Deserialize)]
pub(super) struct HealthReason {
    pub(super) message: String,
}

impl Health {
    fn cell(&self) -> Cell {
        let reasons = self.reasons.iter();
        let reasons: Vec<String> = reasons.map(|reason| reason.message.clone()).collect();
        Cell::state(&self.status).and(Cell::text(reasons.join(" ")))
    }
}

impl TenantRow {
    fn row(&self) -> [Cell; 6] {
        [
            Cell::tenant(Some(&self.slug)),
            Cell::text(&self.name),
            Cell::state(&self.status),
            Cell::text(&self.plan),
            Cell::text(self.domains.join(", ")),
            self.health.as_ref().map(Health::cell).unwrap_or_default(),
        ]
    }
}

impl List<TenantRow> {
    /// The table of these tenants.
    pub(super) fn table(&self, empty: &'static str) -> Table {
        Table::new(
            "Tenants",
            ["Slug", "Name", "Status", "Plan", "Domains", "Health"],
            self.items.iter().map(TenantRow::row),
            empty,
        )
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let tenants = List::<TenantRow>::read(&request, "/tenants", &FILTERS).await?;
    let next = tenants.next_page(&request, "/console/tenants", &FILTERS);
    let frame = request.frame("/console/tenants", "Tenants")?;
    let table = tenants.table("No tenant matches.");
    let page = ListPage::new(frame, table.with_next(next, "More tenants"));
    let page = page.with_filters(vec![
        Field::text("Slug, name or domain", "q", request.text("q")),
        Field::choice("Status", "status", &STATUSES, request.text("status")),
        Field::choice("Health", "health", &HEALTHS, request.text("health")),
    ]);
    Ok(page.respond())
}
