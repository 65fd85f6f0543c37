//! Queues.

use axum::response::Response;
use bson::DateTime;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Form,
        page::Frame,
        page_request::PageRequest,
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    List, ListPage,
    pause::pause_fields,
};

/// A queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) paused: bool,
    paused_at: Option<Time>,
    paused_reason: Option<String>,
    paused_until: Option<Time>,
    pub(super) due: u64,
    scheduled: u64,
    running: u64,
    oldest_due_at: Option<Time>,
    pub(super) workers: u64,
    slots: i64,
}

impl Queue {
    /// The state in a word.
    pub(super) fn state(&self) -> Word {
        Word::new(if self.paused {
            "paused"
        } else if self.workers == 0 {
            "away"
        } else {
            "ok"
        })
    }

    /// The state, and why the queue is paused until when.
    fn state_cell(&self) -> Cell {
        let mut cell = Cell::state(&self.state());
        for (word, time) in [("since", &self.paused_at), ("until", &self.paused_until)] {
            if time.is_some() {
                cell = cell.and(Cell::text(word)).and(Cell::time(time));
            }
        }
        match &self.paused_reason {
            Some(reason) => cell.and(Cell::text(format!("Reason: {reason}"))),
            None => cell,
        }
    }

    fn row(&self) -> [Cell; 7] {
        [
            Cell::link(format!("/console/jobs?queue={}", self.name), &self.name),
            self.state_cell(),
            Cell::text(self.due.to_string()),
            Cell::text(self.scheduled.to_string()),
            Cell::text(self.running.to_string()),
            Cell::time(&self.oldest_due_at),
            Cell::text(format!("{}, {}", self.workers, self.slots)),
        ]
    }

    fn forms(&self, frame: &Frame, now: DateTime) -> Vec<Form> {
        let form = |action: &str, verb: &str| {
            let label = format!("{verb} {}", self.name);
            frame.form("queues", &self.name, action, label)
        };
        let form = if self.paused {
            form("resume", "Resume")
        } else {
            let pause = form("pause", "Pause");
            pause.map(|form| form.with_fields(pause_fields(now)))
        };
        form.into_iter().collect()
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let queues: List<Queue> = request.get("/queues").await?;
    let frame = request.frame("/console/queues", "Queues")?;
    let (queues, now) = (&queues.items, request.console.app.store.now());
    let mut table = Table::new(
        "Queues",
        [
            "Name",
            "State",
            "Due",
            "Scheduled",
            "Running",
            "Oldest due",
            "Workers, slots",
        ],
        queues.iter().map(Queue::row),
        "There is no queue.",
    );
    if frame.may_write() {
        table = table.with_forms(queues.iter().map(|queue| queue.forms(&frame, now)));
    }
    Ok(ListPage::new(frame, table).respond())
}
