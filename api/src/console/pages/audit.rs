//! Audit trail.

use std::collections::BTreeSet;

use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    super::{
        failure::Failure,
        form::Field,
        page_request::PageRequest,
        query::path_with,
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    List, ListPage,
};

/// Parameters of the list.
const FILTERS: [&str; 4] = ["q", "tenant", "action", "outcome"];
/// Outcomes.
const OUTCOMES: [&str; 4] = ["accepted", "done", "failed", "cancelled"];

/// An event of the audit trail.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    at: Time,
    actor: Actor,
    action: String,
    target: Target,
    outcome: Word,
    #[serde(default)]
    before: Map<String, Value>,
    #[serde(default)]
    after: Map<String, Value>,
    job_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Actor {
    id: String,
    kind: String,
    name: Option<String>,
}

/// Target of an event.
#[derive(Debug, Deserialize)]
struct Target {
    kind: String,
    name: String,
}

impl Event {
    /// The table of these events.
    pub(super) fn table(caption: &str, events: &[Self], empty: &'static str) -> Table {
        Table::new(
            caption,
            ["Time", "Who", "Action", "Target", "Outcome", "Changes"],
            events.iter().map(Self::row),
            empty,
        )
    }

    fn row(&self) -> [Cell; 6] {
        let job = self.job_id.as_ref().map(|id| format!("/console/jobs/{id}"));
        let job = job.map(|path| Cell::link(path, "its job"));
        [
            Cell::time(&self.at),
            Cell::text(self.who()),
            Cell::text(&self.action),
            Cell::text(format!("{} {}", self.target.kind, self.target.name)),
            Cell::state(&self.outcome).and(job.unwrap_or_default()),
            Cell::lines(self.changes()),
        ]
    }

    /// Actor of an event.
    fn who(&self) -> String {
        let name = self.actor.name.as_deref().unwrap_or(&self.actor.id);
        format!("{name} ({})", self.actor.kind)
    }

    /// The changed fields.
    fn changes(&self) -> Vec<String> {
        let fields: BTreeSet<&String> = self.before.keys().chain(self.after.keys()).collect();
        let change = |field: &String| {
            let value = |fields: &Map<String, Value>| {
                let value = fields.get(field);
                value.map_or_else(|| "–".to_owned(), Value::to_string)
            };
            format!("{field}: {} → {}", value(&self.before), value(&self.after))
        };
        fields.into_iter().map(change).collect()
    }
}

/// All events that match the filters, as a CSV file.
pub(in crate::console) async fn csv(request: PageRequest) -> Result<Response, Failure> {
    let path = path_with("/audit", &request.parameters, &FILTERS, &[]);
    request.csv(&path).await
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let events = List::<Event>::read(&request, "/audit", &FILTERS).await?;
    let next = events.next_page(&request, "/console/audit", &FILTERS);
    let frame = request.frame("/console/audit", "Audit")?;
    let table = Event::table("Events, newest first", &events.items, "No event matches.");
    let csv = path_with("/console/audit.csv", &request.parameters, &FILTERS, &[]);
    let verification = path_with(
        "/console/audit/verify",
        &request.parameters,
        &["tenant"],
        &[],
    );
    let page = ListPage::new(frame, table.with_next(next, "Older events"))
        .with_link(csv, "CSV file of all that match")
        .with_link(verification, "Verify the trail");
    let value = |name| request.text(name);
    let page = page.with_filters(vec![
        Field::text("Words", "q", value("q")),
        Field::text("Tenant", "tenant", value("tenant")),
        Field::text("Action, such as tenant.suspend", "action", value("action")),
        Field::choice("Outcome", "outcome", &OUTCOMES, value("outcome")),
    ]);
    Ok(page.respond())
}
