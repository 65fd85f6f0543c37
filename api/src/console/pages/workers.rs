//! Worker processes.

use std::collections::BTreeMap;

use axum::response::Response;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        page_request::PageRequest,
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

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let workers: List<Worker> = request.get("/workers").await?;
    let frame = request.frame("/console/workers", "Workers")?;
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
