//! Worker processes.

use std::collections::BTreeMap;

use axum::{
    extract::{Query, State},
    response::Response,
};
use serde::Deserialize;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::Frame,
        query::Parameters,
        session::Session,
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    List, ListPage,
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
        Word::new(if !self.alive {
            "lost"
        } else if self.stopping {
            "stopping"
        } else {
            "alive"
        })
    }

    /// Concurrency by queue.
    fn slots(&self) -> String {
        let slots = self.slots.iter();
        let slots: Vec<String> = slots
            .map(|(queue, slots)| format!("{queue} {slots}"))
            .collect();
        slots.join(", ")
    }

    fn row(&self) -> [Cell; 6] {
        [
            Cell::text(&self.name),
            Cell::state(&self.state()),
            Cell::text(&self.host),
            Cell::text(self.slots()),
            Cell::time(&self.started_at),
            Cell::time(&self.seen_at),
        ]
    }
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let workers: List<Worker> = console.routes.get(&session, "/workers").await?;
    let frame = Frame::new(&session, "/console/workers", "Workers", &parameters)?;
    let table = Table::new(
        "Workers, oldest first",
        [
            "Name",
            "State",
            "Host",
            "Slots",
            "Started",
            "Last heartbeat",
        ],
        workers.items.iter().map(Worker::row),
        "No worker is running. Jobs wait until one starts.",
    );
    Ok(ListPage::new(frame, table).respond())
}
