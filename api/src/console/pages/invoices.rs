//! List of the invoices of all tenants.

use std::collections::BTreeMap;

use axum::response::Response;
use dezky_shared::id::TenantId;
use serde::Deserialize;

use super::{
    super::{
        Console,
        failure::Failure,
        form::{Field, Form},
        page::Frame,
        page_request::PageRequest,
        table::{Cell, Table},
        text::{State as Word, Time, amount},
    },
    List, ListPage,
};

/// Parameters of the list.
const FILTERS: [&str; 1] = ["status"];
/// Sentence about an open invoice without actions.
const AT_PROVIDER: &str = "The payment provider issues this invoice. It is paid and voided there.";
/// Statuses of invoices.
const STATUSES: [&str; 5] = ["draft", "open", "paid", "uncollectible", "void"];

/// An invoice in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Invoice {
    id: String,
    tenant_id: String,
    number: Option<String>,
    status: Word,
    kind: Word,
    origin: Word,
    currency: String,
    exponent: u8,
    subtotal_minor: i64,
    amount_remaining_minor: i64,
    issued_at: Time,
    due_at: Option<Time>,
}

/// Slugs of tenants, by id.
type Slugs = BTreeMap<String, String>;

impl Invoice {
    fn row(&self, slugs: &Slugs) -> [Cell; 8] {
        let cell = |minor| Cell::text(amount(minor, self.exponent, &self.currency));
        [
            Cell::text(self.number.as_deref().unwrap_or("without a number")),
            Cell::tenant(slugs.get(&self.tenant_id).map(String::as_str)),
            self.status_cell(),
            Cell::text(self.kind.to_string()),
            cell(self.subtotal_minor),
            cell(self.amount_remaining_minor),
            Cell::time(&self.issued_at),
            Cell::time(&self.due_at),
        ]
    }

    /// The status. An open invoice of the payment provider says why it has no actions, which the API would refuse.
    fn status_cell(&self) -> Cell {
        let status = Cell::state(&self.status);
        if self.is_open() && self.is_of_provider() {
            status.and(Cell::text(AT_PROVIDER))
        } else {
            status
        }
    }

    fn is_open(&self) -> bool {
        self.status.is("open")
    }

    fn is_of_provider(&self) -> bool {
        self.origin.is("stripe")
    }

    /// The forms of the actions that are possible for the invoice in its status.
    fn forms(&self, frame: &Frame, slugs: &Slugs) -> Vec<Form> {
        let Some(slug) = slugs.get(&self.tenant_id) else {
            return Vec::new();
        };
        if !self.is_open() || self.is_of_provider() {
            return Vec::new();
        }
        let form = |action, label: &str, field: Field| {
            let form = frame.form("invoices", &self.id, action, label)?;
            Some(form.with_fields(vec![Field::hidden("tenant", slug), field]))
        };
        let reference = Field::required("Reference", "reference");
        let reason = Field::required("Reason", "reason");
        let forms = [
            form("mark-paid", "Mark as paid", reference),
            form("void", "Void", reason),
        ];
        forms.into_iter().flatten().collect()
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let invoices = List::<Invoice>::read(&request, "/invoices", &FILTERS).await?;
    let slugs = slugs(&request.console, &invoices.items).await?;
    let next = invoices.next_page(&request, "/console/invoices", &FILTERS);
    let frame = request.frame("/console/billing", "Invoices")?;
    let invoices = &invoices.items;
    let mut table = Table::new(
        "Invoices, newest first",
        [
            "Number", "Tenant", "Status", "Kind", "Net", "To pay", "Issued", "Due",
        ],
        invoices.iter().map(|invoice| invoice.row(&slugs)),
        "No invoice matches.",
    );
    if frame.may_write() {
        table = table.with_forms(invoices.iter().map(|it| it.forms(&frame, &slugs)));
    }
    let status = request.text("status");
    let page = ListPage::new(frame, table.with_next(next, "Older invoices"))
        .with_link("/console/billing", "Billing")
        .with_filters(vec![Field::choice("Status", "status", &STATUSES, status)]);
    Ok(page.respond())
}

/// Slugs of the tenants of these invoices, which have their ids only. Every operator may read every tenant.
async fn slugs(console: &Console, invoices: &[Invoice]) -> Result<Slugs, Failure> {
    let ids = invoices.iter().filter_map(|it| it.tenant_id.parse().ok());
    let ids: Vec<TenantId> = ids.collect();
    let tenants = console.app.db.tenants.list_by_ids(&ids).await?;
    let tenants = tenants.into_iter();
    Ok(tenants
        .map(|tenant| (tenant.id.to_string(), tenant.slug))
        .collect())
}
