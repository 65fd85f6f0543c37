//! List of jobs.

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
        query::{Parameters, path_with, text},
        session::Session,
        text::{State as Word, Time},
    },
    Choice, List, choices,
};

/// States, in the order of a job's life.
const STATES: [&str; 5] = [
    "available",
    "running",
    "completed",
    "discarded",
    "cancelled",
];
/// Queues.
const QUEUES: [&str; 5] = ["provisioning", "dns", "billing", "webhooks", "maintenance"];
/// Filters besides the state.
const FILTERS: [&str; 6] = ["kind", "queue", "tenant", "errorCode", "q", "parent"];
/// All parameters that identify a list.
const LIST: [&str; 7] = [
    "state",
    "kind",
    "queue",
    "tenant",
    "errorCode",
    "q",
    "parent",
];

/// A job in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobRow {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) state: Word,
    pub(super) tenant_slug: Option<String>,
    pub(super) queue: String,
    pub(super) created_at: Time,
    pub(super) error: Option<JobError>,
}

/// Last error of a job or a step.
#[derive(Debug, Deserialize)]
pub(super) struct JobError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) operation: Option<String>,
    pub(super) detail: Option<String>,
}

/// Numbers of jobs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobStats {
    pub(super) states: BTreeMap<String, u64>,
    pub(super) error_codes: BTreeMap<String, u64>,
    pub(super) counted: u64,
    pub(super) is_complete: bool,
}

impl JobStats {
    /// Number of jobs in a state.
    pub(super) fn in_state(&self, state: &str) -> u64 {
        self.states.get(state).copied().unwrap_or(0)
    }

    /// The jobs that the numbers are limited to, in words. Empty if every job was counted.
    pub(super) fn scope(&self) -> String {
        if self.is_complete {
            String::new()
        } else {
            format!(" among the newest {}", self.counted)
        }
    }
}

/// A link that filters by state.
#[derive(Debug)]
struct Chip {
    state: Word,
    number: u64,
    path: String,
    is_current: bool,
}

#[derive(Debug, Template)]
#[template(path = "console/jobs.html")]
struct JobsPage {
    frame: Frame,
    chips: Vec<Chip>,
    all: String,
    has_state: bool,
    /// Whether an operation can select the same jobs.
    can_operate: bool,
    filters: Filters,
    jobs: Vec<JobRow>,
    next: Option<String>,
    stats: JobStats,
}

/// Current values of the filters.
#[derive(Debug)]
struct Filters {
    state: String,
    kind: String,
    queue: String,
    tenant: String,
    error_code: String,
    q: String,
    queues: Vec<Choice>,
}

impl Filters {
    fn new(parameters: &Parameters) -> Self {
        let value = |name| text(parameters, name).unwrap_or_default().to_owned();
        Self {
            state: value("state"),
            kind: value("kind"),
            queue: value("queue"),
            tenant: value("tenant"),
            error_code: value("errorCode"),
            q: value("q"),
            queues: choices(&QUEUES, text(parameters, "queue")),
        }
    }
}

pub(in crate::console) async fn show(
    State(console): State<ConsoleState>,
    session: Session,
    Query(parameters): Query<Parameters>,
) -> Result<Response, Failure> {
    let cursor = text(&parameters, "cursor").unwrap_or_default();
    let jobs = path_with(
        "/jobs",
        &parameters,
        &LIST,
        &[("limit", "50"), ("cursor", cursor)],
    );
    let stats = path_with("/jobs/stats", &parameters, &FILTERS, &[]);
    let (jobs, stats) = tokio::try_join!(
        console.routes.get::<List<JobRow>>(&session, &jobs),
        console.routes.get::<JobStats>(&session, &stats),
    )?;
    let current = text(&parameters, "state");
    let chip = |state: &'static str| Chip {
        state: Word(state.to_owned()),
        number: stats.in_state(state),
        path: path_with("/console/jobs", &parameters, &FILTERS, &[("state", state)]),
        is_current: current == Some(state),
    };
    let next = jobs.next_page("/console/jobs", &parameters, &LIST);
    let frame = Frame::new(&session, "/console/jobs", "Jobs", &parameters)?;
    let others = ["tenant", "q", "parent"];
    let is_selectable = others.iter().all(|name| text(&parameters, name).is_none());
    let page = JobsPage {
        can_operate: frame.may_write() && is_selectable && current.is_some(),
        frame,
        chips: STATES.map(chip).into(),
        all: path_with("/console/jobs", &parameters, &FILTERS, &[]),
        has_state: current.is_some(),
        filters: Filters::new(&parameters),
        jobs: jobs.items,
        next,
        stats,
    };
    Ok(respond(StatusCode::OK, &page))
}
