//! Feature flags: their rules, and their values for a tenant.

use std::collections::BTreeMap;

use axum::{
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        Console, ConsoleState,
        failure::{Failure, unexpected},
        form::Field,
        page::Frame,
        query::{Parameters, text},
        session::{Session, random},
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    List, ListPage,
};

/// A feature flag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Flag {
    key: String,
    description: String,
    default: bool,
    rules: Vec<Rule>,
    kill_switch: bool,
    updated_at: Time,
}

/// A rule of a flag.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(default)]
    tenants: Vec<String>,
    #[serde(default)]
    partners: Vec<String>,
    #[serde(default)]
    plans: Vec<String>,
    percentage: Option<u8>,
    from: Option<Time>,
    until: Option<Time>,
    value: bool,
}

/// A value of a flag, as a state.
fn value(is_on: bool) -> Word {
    Word::new(if is_on { "on" } else { "off" })
}

impl Rule {
    /// The rule in a sentence.
    fn text(&self) -> String {
        let lists = [
            ("tenants", &self.tenants),
            ("tenants of partners", &self.partners),
            ("plans", &self.plans),
        ];
        let lists = lists.iter().filter(|(_, names)| !names.is_empty());
        let mut conditions: Vec<String> = lists
            .map(|(label, names)| format!("{label} {}", names.join(", ")))
            .collect();
        conditions.extend(self.percentage.map(|share| format!("{share} % of tenants")));
        conditions.extend(self.from.as_ref().map(|at| format!("from {at}")));
        conditions.extend(self.until.as_ref().map(|at| format!("until {at}")));
        format!("{}: {}", value(self.value), conditions.join("; "))
    }
}

impl Flag {
    /// The value without a rule that matches.
    fn fallback(&self) -> Cell {
        if self.kill_switch {
            Cell::state(&value(false)).and(Cell::text("for every tenant (kill switch)"))
        } else {
            Cell::state(&value(self.default))
        }
    }

    fn row(&self) -> [Cell; 5] {
        [
            Cell::code(&self.key),
            Cell::text(&self.description),
            self.fallback(),
            Cell::lines(self.rules.iter().map(Rule::text).collect()),
            Cell::time(&self.updated_at),
        ]
    }
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let flags = List::<Flag>::read(&console, &session, "/flags", &parameters, &[]).await?;
    let next = flags.next_page("/console/flags", &parameters, &[]);
    let frame = Frame::new(&session, "/console/flags", "Flags", &parameters)?;
    let table = Table::new(
        "Flags; the first rule that matches decides",
        ["Key", "Purpose", "Without a rule", "Rules", "Changed"],
        flags.items.iter().map(Flag::row),
        "No flag is defined.",
    );
    let tenant = text(&parameters, "tenant");
    let mut page = ListPage::new(frame, table.with_next(next, "More flags"))
        .with_filters(vec![Field::text("Values for the tenant", "tenant", tenant)]);
    if let Some(slug) = tenant {
        page = match evaluate(&console, &session, slug).await {
            Ok(values) => page.with_table(values),
            Err(failure) => page.with_sentence(failure.summary()),
        };
    }
    Ok(page.respond())
}

/// The values of the flags for a tenant.
async fn evaluate(console: &Console, session: &Session, slug: &str) -> Result<Table, Failure> {
    let body = json!({ "tenantSlug": slug });
    let path = "/flags/evaluate";
    let values = console
        .routes
        .post(session, path, Some(&body), &random()?)
        .await?;
    let values: BTreeMap<String, bool> = serde_json::from_value(values)
        .map_err(|error| unexpected(error.into(), &session.request))?;
    let row = |(key, is_on): (String, bool)| [Cell::code(key), Cell::state(&value(is_on))];
    Ok(Table::new(
        format!("Values for the tenant {slug}"),
        ["Key", "Value"],
        values.into_iter().map(row),
        "No flag is defined.",
    ))
}
