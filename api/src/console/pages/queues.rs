//! Queues.

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
    pause::{PauseEnd, pause_ends},
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
    fn state(&self) -> Word {
        let state = if self.paused {
            "paused"
        } else if self.workers == 0 {
            "away"
        } else {
            "ok"
        };
        Word(state.to_owned())
    }
}

#[derive(Debug, Template)]
#[template(path = "console/queues.html")]
struct QueuesPage {
    frame: Frame,
    queues: Vec<Queue>,
    ends: Vec<PauseEnd>,
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let queues: List<Queue> = console.routes.get(&session, "/queues").await?;
    let page = QueuesPage {
        frame: Frame::new(&session, "/console/queues", "Queues", &parameters)?,
        queues: queues.items,
        ends: pause_ends(console.app.store.now()),
    };
    Ok(respond(StatusCode::OK, &page))
}
