//! One partner: its terms and its tenants.

use axum::{
    extract::{Path, Query, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::Frame,
        query::{Parameters, segment},
        session::Session,
        table::{Cell, Table},
        text::State as Word,
    },
    List, ListPage,
    tenants::TenantRow,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Partner {
    slug: String,
    name: String,
    domain: Option<String>,
    status: Word,
    margin_pct: f64,
    contact_info: Contact,
    support_email: Option<String>,
    default_plan: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Contact {
    name: Option<String>,
    email: Option<String>,
    phone: Option<String>,
}

impl Partner {
    fn table(&self) -> Table {
        let text = |text: Option<&str>| Cell::text(text.unwrap_or_default());
        let contact = &self.contact_info;
        let contact = [&contact.name, &contact.email, &contact.phone];
        let contact: Vec<&str> = contact.into_iter().flatten().map(String::as_str).collect();
        let rows = [
            ("Slug", Cell::text(&self.slug)),
            ("Status", Cell::state(&self.status)),
            ("Domain", text(self.domain.as_deref())),
            ("Margin", Cell::text(format!("{} %", self.margin_pct))),
            ("Contact", Cell::text(contact.join(", "))),
            ("Support", text(self.support_email.as_deref())),
            ("Plan of new tenants", text(self.default_plan.as_deref())),
        ];
        let rows = rows.map(|(name, cell)| [Cell::text(name), cell]);
        Table::new("Terms", ["Field", "Value"], rows, "None.")
    }
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Path(slug): Path<String>,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let slug = segment(&slug)?;
    let path = format!("/partners/{slug}");
    let tenants = format!("{path}/tenants");
    let (partner, tenants) = tokio::try_join!(
        console.routes.get::<Partner>(&session, &path),
        List::<TenantRow>::read(&console, &session, &tenants, &parameters, &[]),
    )?;
    let own = format!("/console/partners/{}", partner.slug);
    let next = tenants.next_page(&own, &parameters, &[]);
    let title = partner.name.as_str();
    let frame = Frame::new(&session, "/console/partners", title, &parameters)?;
    let tenants = tenants.table("The partner has no tenant.");
    let page =
        ListPage::new(frame, partner.table()).with_table(tenants.with_next(next, "More tenants"));
    Ok(page.respond())
}
