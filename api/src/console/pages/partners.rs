//! List of partners.

use std::collections::BTreeMap;

use axum::response::Response;
use dezky_shared::money::exponent;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::{Field, Form},
        page::Frame,
        page_request::PageRequest,
        table::{Cell, Table},
        text::{State as Word, amount},
    },
    List, ListPage, PLANS,
};

/// Parameters of the list.
const FILTERS: [&str; 1] = ["status"];
/// Statuses of partners.
const STATUSES: [&str; 2] = ["active", "terminated"];

/// A partner in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PartnerRow {
    slug: String,
    name: String,
    domain: Option<String>,
    status: Word,
    margin_pct: f64,
    customers: i64,
    monthly_recurring_revenue: BTreeMap<String, i64>,
}

impl PartnerRow {
    fn row(&self) -> [Cell; 7] {
        let revenue = self.monthly_recurring_revenue.iter();
        let revenue = revenue.map(|(currency, minor)| amount(*minor, exponent(currency), currency));
        [
            Cell::link(format!("/console/partners/{}", self.slug), &self.slug),
            Cell::text(&self.name),
            Cell::text(self.domain.as_deref().unwrap_or_default()),
            Cell::state(&self.status),
            Cell::text(format!("{} %", self.margin_pct)),
            Cell::text(self.customers.to_string()),
            Cell::text(revenue.collect::<Vec<_>>().join(", ")),
        ]
    }
}

/// The form of a new partner.
fn create_form(frame: &Frame) -> Option<Form> {
    let form = frame.form("partners", "new", "create", "Create a partner")?;
    Some(form.with_fields(vec![
        Field::required("Slug, which never changes", "slug"),
        Field::required("Name", "name"),
        Field::text("Domain", "domain", None).up_to(253),
        Field::text("Margin in percent", "marginPct", None),
        Field::text("Support", "supportEmail", None).up_to(254),
        Field::choice("Plan of new tenants", "defaultPlan", &PLANS, None).with_none(Some("none")),
    ]))
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let partners = List::<PartnerRow>::read(&request, "/partners", &FILTERS).await?;
    let next = partners.next_page(&request, "/console/partners", &FILTERS);
    let frame = request.frame("/console/partners", "Partners")?;
    let table = Table::new(
        "Partners, oldest first",
        [
            "Slug",
            "Name",
            "Domain",
            "Status",
            "Margin",
            "Tenants",
            "Monthly recurring revenue",
        ],
        partners.items.iter().map(PartnerRow::row),
        "No partner matches.",
    );
    let status = request.text("status");
    let forms = create_form(&frame).into_iter().collect();
    let page = ListPage::new(frame, table.with_next(next, "More partners"))
        .with_filters(vec![Field::choice("Status", "status", &STATUSES, status)])
        .with_forms(forms);
    Ok(page.respond())
}
