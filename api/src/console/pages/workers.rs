//! Worker processes.

use std::collections::BTreeMap;

use askama::Template;
use axum::{
    extract::{Query, State},
    response::Response,
};
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::{Frame, respond},
        query::Parameters,
        session::Session,
        text::{State as Word, Time},
    },
    List,
};

/// A worker.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Worker {
    name: String,
    host: String,
    slots: BTreeMap<String, i64>,
    pub(super) alive: bool,
    stopping: bool,
    started_at: Time,
    seen_at: Time,
}

impl Worker {
    fn state(&self) -> Word {
        let state = if !self.alive {
            "lost"
        } else if self.stopping {
            "stopping"
        } else {
            "alive"
        };
        Word(state.to_owned())
    }

    /// Concurrency by queue.
    fn slots(&self) -> String {
        let slots = self.slots.iter();
        let slots: Vec<String> = slots
            .map(|(queue, slots)| format!("{queue} {slots}"))
            .collect();
        slots.join(", ")
    }
}

#[derive(Debug, Template)]
#[template(path = "console/workers.html")]
struct WorkersPage {
    frame: Frame,
    workers: Vec<Worker>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let workers: List<Worker> = console.routes.get(&session, "/workers").await?;
    let page = WorkersPage {
        frame: Frame::new(&session, "/console/workers", "Workers", &parameters)?,
        workers: workers.items,
    };
    Ok(respond(StatusCode::OK, &page))
}
