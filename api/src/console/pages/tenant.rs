//! One tenant: its conditions, domains, members, apps, storage, open invoices and jobs.

mod storage;

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::Path, response::Response};
use dezky_shared::money::exponent;
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Form,
        html::respond,
        page::Frame,
        page_request::PageRequest,
        query::segment,
        table::{Cell, Table},
        text::{State as Word, Time, amount},
    },
    List,
    jobs::JobRow,
    tenants::Health,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tenant {
    id: String,
    slug: String,
    name: String,
    status: Word,
    plan: String,
    conditions: Vec<Condition>,
    purge_at: Option<Time>,
    created_at: Time,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: Word,
    message: String,
    last_transition_at: Time,
    next_attempt_at: Option<Time>,
}

#[derive(Debug, Deserialize)]
struct Summary {
    health: Health,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Domain {
    unicode_name: String,
    status: Word,
    checked_at: Option<Time>,
    checks: Vec<Check>,
}

#[derive(Debug, Deserialize)]
struct Check {
    kind: String,
    state: Word,
    message: String,
}

#[derive(Debug, Deserialize)]
struct Member {
    email: String,
    name: String,
    role: String,
    status: Word,
}

#[derive(Debug, Deserialize)]
struct App {
    slug: String,
    name: String,
    status: Word,
}

/// Billing of a tenant: amounts in minor units, by currency.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Billing {
    balance_due: BTreeMap<String, i64>,
    balance_overdue: BTreeMap<String, i64>,
}

impl Tenant {
    /// The forms of the actions that are possible in the tenant's status.
    fn forms(&self, frame: &Frame) -> Vec<Form> {
        let form = |action, label: &str, statuses: &[&str]| {
            let form = frame.form("tenants", &self.slug, action, label);
            form.filter(|_| statuses.iter().any(|status| self.status.is(status)))
        };
        let alive = ["pending", "active", "suspended", "terminating"];
        let reconcile = form("reconcile", "Reconcile", &alive);
        let invoice = form("invoice", "Invoice due periods", &["active", "suspended"]);
        let forms = [
            reconcile.map(Form::with_dry_run),
            invoice.map(Form::with_dry_run),
            form("suspend", "Suspend", &["active", "pending"]),
            form("resume", "Resume", &["suspended"]),
            form("restore", "Restore", &["terminating"]),
        ];
        forms.into_iter().flatten().collect()
    }

    fn condition_table(&self) -> Table {
        Table::new(
            "Conditions",
            ["Condition", "Holds", "Reason", "Since", "Next attempt"],
            self.conditions.iter().map(Condition::row),
            "The tenant has no conditions yet.",
        )
    }
}

impl Condition {
    fn row(&self) -> [Cell; 5] {
        [
            Cell::text(&self.kind),
            Cell::state(&self.status),
            Cell::text(&self.message),
            Cell::time(&self.last_transition_at),
            Cell::time(&self.next_attempt_at),
        ]
    }
}

impl List<Domain> {
    fn table(&self) -> Table {
        Table::new(
            self.caption("Domains"),
            ["Name", "Status", "Checked", "Checks that do not pass"],
            self.items.iter().map(Domain::row),
            "The tenant has no domain.",
        )
    }
}

impl Domain {
    fn row(&self) -> [Cell; 4] {
        let problems = self.checks.iter().filter(|check| !check.state.is("ok"));
        let problem = |check: &Check| {
            Cell::text(&check.kind)
                .and(Cell::state(&check.state))
                .and(Cell::text(&check.message))
        };
        let beside = |cell: Cell, next: Cell| cell.and(Cell::text("·")).and(next);
        [
            Cell::text(&self.unicode_name),
            Cell::state(&self.status),
            Cell::time(&self.checked_at),
            problems.map(problem).reduce(beside).unwrap_or_default(),
        ]
    }
}

impl List<Member> {
    fn table(&self) -> Table {
        let row = |member: &Member| {
            [
                Cell::text(&member.email),
                Cell::text(&member.name),
                Cell::text(&member.role),
                Cell::state(&member.status),
            ]
        };
        Table::new(
            self.caption("Members"),
            ["E-mail", "Name", "Role", "Status"],
            self.items.iter().map(row),
            "The tenant has no member.",
        )
    }
}

impl List<App> {
    fn table(&self) -> Table {
        let row = |app: &App| {
            [
                Cell::text(&app.slug),
                Cell::text(&app.name),
                Cell::state(&app.status),
            ]
        };
        Table::new(
            self.caption("Apps"),
            ["Slug", "Name", "Status"],
            self.items.iter().map(row),
            "The tenant has no app.",
        )
    }
}

impl Billing {
    fn table(&self) -> Table {
        let row = |(currency, due): (&String, &i64)| {
            let overdue = self.balance_overdue.get(currency).copied();
            let amount = |minor| Cell::text(amount(minor, exponent(currency), currency));
            [
                Cell::text(currency),
                amount(*due),
                amount(overdue.unwrap_or_default()),
            ]
        };
        Table::new(
            "Open invoices",
            ["Currency", "To pay", "Of that, overdue"],
            self.balance_due.iter().map(row),
            "The tenant has no open invoice.",
        )
    }
}

#[derive(Debug, Template)]
#[template(path = "console/tenant.html")]
struct TenantPage {
    forms: Vec<Form>,
    tables: Vec<Table>,
    frame: Frame,
    tenant: Tenant,
    health: Health,
}

pub(in crate::console) async fn show(
    request: PageRequest,
    Path(slug): Path<String>,
) -> Result<Response, Failure> {
    let slug = segment(&slug)?;
    let tenant = format!("/tenants/{slug}");
    let summary = format!("/tenants/{slug}/summary");
    let domains = format!("/tenants/{slug}/domains");
    let members = format!("/tenants/{slug}/users?limit=25");
    let apps = format!("/tenants/{slug}/apps?limit=25");
    let billing = format!("/tenants/{slug}/billing");
    let jobs = format!("/tenants/{slug}/jobs?limit=10");
    let (tenant, summary, domains, members, apps, billing, jobs) = tokio::try_join!(
        request.get::<Tenant>(&tenant),
        request.get::<Summary>(&summary),
        request.get::<List<Domain>>(&domains),
        request.get::<List<Member>>(&members),
        request.get::<List<App>>(&apps),
        request.get::<Billing>(&billing),
        request.get::<List<JobRow>>(&jobs),
    )?;
    let storage = storage::table(&request.console, &tenant.id).await?;
    let title = tenant.name.as_str();
    let frame = request.frame("/console/tenants", title)?;
    let page = TenantPage {
        forms: tenant.forms(&frame),
        tables: vec![
            tenant.condition_table(),
            domains.table(),
            members.table(),
            apps.table(),
            storage,
            billing.table(),
            JobRow::table("Last jobs", &jobs.items, "The tenant has no job."),
        ],
        frame,
        tenant,
        health: summary.health,
    };
    Ok(respond(StatusCode::OK, &page))
}
