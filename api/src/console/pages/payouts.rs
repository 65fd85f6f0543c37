//! List of the payouts to all partners.

use std::collections::BTreeMap;

use axum::response::Response;
use dezky_shared::id::PartnerId;
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
/// Statuses of payouts.
const STATUSES: [&str; 3] = ["pending", "paid", "cancelled"];

/// A payout in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payout {
    id: String,
    partner_id: String,
    month: String,
    currency: String,
    exponent: u8,
    amount_minor: i64,
    entry_count: i64,
    status: Word,
    paid_at: Option<Time>,
    reference: Option<String>,
}

/// Slugs of partners, by id.
type Slugs = BTreeMap<String, String>;

impl Payout {
    fn row(&self, slugs: &Slugs) -> [Cell; 7] {
        let partner = slugs.get(&self.partner_id);
        let partner = partner.map(|slug| Cell::link(format!("/console/partners/{slug}"), slug));
        [
            partner.unwrap_or_default(),
            Cell::text(&self.month),
            Cell::text(amount(self.amount_minor, self.exponent, &self.currency)),
            Cell::text(self.entry_count.to_string()),
            Cell::state(&self.status),
            Cell::time(&self.paid_at),
            Cell::text(self.reference.as_deref().unwrap_or_default()),
        ]
    }

    /// The forms of the actions that are possible in the payout's status.
    fn forms(&self, frame: &Frame) -> Vec<Form> {
        if !self.status.is("pending") {
            return Vec::new();
        }
        let form = |action, label: &str| frame.form("payouts", &self.id, action, label);
        let reference = vec![Field::required("Reference", "reference")];
        let pay = form("mark-paid", "Mark as paid").map(|form| form.with_fields(reference));
        let forms = [pay, form("cancel", "Cancel")];
        forms.into_iter().flatten().collect()
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let payouts = List::<Payout>::read(&request, "/payouts", &FILTERS).await?;
    let slugs = slugs(&request.console, &payouts.items).await?;
    let next = payouts.next_page(&request, "/console/payouts", &FILTERS);
    let frame = request.frame("/console/billing", "Payouts")?;
    let payouts = &payouts.items;
    let mut table = Table::new(
        "Payouts, the last month first",
        [
            "Partner",
            "Month",
            "Amount",
            "Entries",
            "Status",
            "Paid",
            "Reference",
        ],
        payouts.iter().map(|payout| payout.row(&slugs)),
        "No payout matches.",
    );
    if frame.may_write() {
        table = table.with_forms(payouts.iter().map(|payout| payout.forms(&frame)));
    }
    let status = request.text("status");
    let page = ListPage::new(frame, table.with_next(next, "Older payouts"))
        .with_link("/console/billing", "Billing")
        .with_link(
            "/console/partners",
            "Create a payout on the page of its partner",
        )
        .with_filters(vec![Field::choice("Status", "status", &STATUSES, status)]);
    Ok(page.respond())
}

/// Slugs of the partners of these payouts, which have their ids only. Every operator may read every partner.
async fn slugs(console: &Console, payouts: &[Payout]) -> Result<Slugs, Failure> {
    let ids = payouts.iter().filter_map(|it| it.partner_id.parse().ok());
    let ids: Vec<PartnerId> = ids.collect();
    let partners = console.app.db.partners.list_named(&ids, &[]).await?;
    let partners = partners.into_iter();
    Ok(partners
        .map(|partner| (partner.id.to_string(), partner.slug))
        .collect())
}
