//! Audit trail.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::{Frame, respond},
        query::{Parameters, path_with, text},
        session::Session,
        text::{State as Word, Time},
    },
    Choice, List, choices,
};

/// Parameters of the list.
const FILTERS: [&str; 4] = ["q", "tenant", "action", "outcome"];
/// Outcomes.
const OUTCOMES: [&str; 4] = ["accepted", "done", "failed", "cancelled"];

/// An event of the audit trail.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    pub(super) at: Time,
    actor: Actor,
    pub(super) action: String,
    pub(super) target: Target,
    pub(super) outcome: Word,
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

/// What an event changed.
#[derive(Debug, Deserialize)]
pub(super) struct Target {
    pub(super) kind: String,
    pub(super) name: String,
}

impl Event {
    /// Who acted.
    pub(super) fn who(&self) -> String {
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

#[derive(Debug, Template)]
#[template(path = "console/audit.html")]
struct AuditPage {
    frame: Frame,
    q: String,
    tenant: String,
    action: String,
    outcomes: Vec<Choice>,
    events: Vec<Event>,
    next: Option<String>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let cursor = text(&parameters, "cursor").unwrap_or_default();
    let more = [("limit", "50"), ("cursor", cursor)];
    let path = path_with("/audit", &parameters, &FILTERS, &more);
    let events: List<Event> = console.routes.get(&session, &path).await?;
    let next = events.next_page("/console/audit", &parameters, &FILTERS);
    let value = |name| text(&parameters, name).unwrap_or_default().to_owned();
    let page = AuditPage {
        frame: Frame::new(&session, "/console/audit", "Audit", &parameters)?,
        q: value("q"),
        tenant: value("tenant"),
        action: value("action"),
        outcomes: choices(&OUTCOMES, text(&parameters, "outcome")),
        events: events.items,
        next,
    };
    Ok(respond(StatusCode::OK, &page))
}
