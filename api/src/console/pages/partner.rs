//! One partner: its terms, its tenants, and the forms that change it.

use axum::{extract::Path, response::Response};
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::{Field, Form},
        page::Frame,
        page_request::PageRequest,
        query::segment,
        table::{Cell, Table},
        text::{State as Word, amount},
    },
    List, ListPage, PLANS,
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
    branding: Branding,
    revision: i64,
}

/// Branding of the partner's portal. Its team changes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Branding {
    product_name: Option<String>,
    accent_color: Option<String>,
    logo_url: Option<String>,
}

impl Branding {
    fn cell(&self) -> Cell {
        let texts = [&self.product_name, &self.accent_color, &self.logo_url];
        let texts: Vec<&str> = texts.into_iter().flatten().map(String::as_str).collect();
        Cell::text(texts.join(", "))
    }
}

/// A balance of a partner in one currency.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Balance {
    currency: String,
    exponent: u8,
    unsettled_minor: i64,
    pending_minor: i64,
    paid_out_minor: i64,
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
            ("Branding", self.branding.cell()),
        ];
        let rows = rows.map(|(name, cell)| [Cell::text(name), cell]);
        Table::new("Terms", ["Field", "Value"], rows, "None.")
    }

    /// The forms of the actions that are possible in the partner's status.
    fn forms(&self, frame: &Frame) -> Vec<Form> {
        let form = |action, label: &str| frame.form("partners", &self.slug, action, label);
        let is_active = self.status.is("active");
        let update = form("update", "Save the terms");
        let update = update.map(|form| form.with_fields(self.fields()));
        let contact = form("contact", "Save the contact");
        let contact = contact.map(|form| form.with_fields(self.contact_fields()));
        let payout = form("payout", "Create a payout");
        let payout = payout.map(|form| {
            form.with_fields(vec![
                Field::required("Currency, such as DKK", "currency"),
                Field::required("Month, such as 2026-10", "month"),
            ])
        });
        let adjust = form("adjust", "Write to the ledger");
        let adjust = adjust.map(|form| {
            form.with_fields(vec![
                Field::required("Currency", "currency"),
                Field::required("Amount in minor units, such as -250", "amountMinor"),
                Field::required("Reason", "reason"),
            ])
        });
        let forms = [
            update,
            contact,
            payout,
            adjust,
            form("terminate", "Terminate").filter(|_| is_active),
            form("restore", "Restore").filter(|_| !is_active),
        ];
        forms.into_iter().flatten().collect()
    }

    /// The fields of the terms, with their values.
    fn fields(&self) -> Vec<Field> {
        let margin = self.margin_pct.to_string();
        vec![
            Field::text("Name", "name", Some(&self.name)),
            Field::text("Domain", "domain", self.domain.as_deref()).up_to(253),
            Field::text("Margin in percent", "marginPct", Some(&margin)),
            Field::text("Support", "supportEmail", self.support_email.as_deref()).up_to(254),
            Field::choice(
                "Plan of new tenants",
                "defaultPlan",
                &PLANS,
                self.default_plan.as_deref(),
            )
            .with_none(Some("none")),
            self.revision_field(),
        ]
    }

    /// The fields of the contact person, with their values.
    fn contact_fields(&self) -> Vec<Field> {
        let contact = &self.contact_info;
        vec![
            Field::text("Contact", "contactName", contact.name.as_deref()),
            Field::text("E-mail", "contactEmail", contact.email.as_deref()).up_to(254),
            Field::text("Phone", "contactPhone", contact.phone.as_deref()),
            self.revision_field(),
        ]
    }

    /// The revision that the page shows.
    fn revision_field(&self) -> Field {
        Field::hidden("revision", self.revision.to_string())
    }
}

impl List<Balance> {
    fn table(&self) -> Table {
        let row = |balance: &Balance| {
            let Balance {
                currency, exponent, ..
            } = balance;
            let cell = |minor| Cell::text(amount(minor, *exponent, currency));
            [
                Cell::text(currency),
                cell(balance.unsettled_minor),
                cell(balance.pending_minor),
                cell(balance.paid_out_minor),
            ]
        };
        Table::new(
            "Balances",
            ["Currency", "Owed", "In pending payouts", "Paid out"],
            self.items.iter().map(row),
            "The ledger has no entry.",
        )
    }
}

pub(in crate::console) async fn show(
    request: PageRequest,
    Path(slug): Path<String>,
) -> Result<Response, Failure> {
    let slug = segment(&slug)?;
    let path = format!("/partners/{slug}");
    let tenants = format!("{path}/tenants");
    let balances = format!("{path}/balances");
    let (partner, balances, tenants) = tokio::try_join!(
        request.get::<Partner>(&path),
        request.get::<List<Balance>>(&balances),
        List::<TenantRow>::read(&request, &tenants, &[]),
    )?;
    let own = format!("/console/partners/{}", partner.slug);
    let next = tenants.next_page(&request, &own, &[]);
    let title = partner.name.as_str();
    let frame = request.frame("/console/partners", title)?;
    let forms = partner.forms(&frame);
    let tenants = tenants.table("The partner has no tenant.");
    let page = ListPage::new(frame, partner.table())
        .with_link("/console/payouts", "Payouts to all partners")
        .with_table(balances.table())
        .with_table(tenants.with_next(next, "More tenants"))
        .with_forms(forms);
    Ok(page.respond())
}
