//! List of jobs.

use std::collections::BTreeMap;

use askama::Template;
use axum::response::Response;
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::{Field, Question},
        html::respond,
        page::Frame,
        page_request::PageRequest,
        query::{Parameters, path_with, text},
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    List,
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

/// Filters of an operation on all jobs that match.
pub(super) const SELECTION: [&str; 4] = ["state", "kind", "queue", "errorCode"];

/// A job in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JobRow {
    id: String,
    kind: String,
    state: Word,
    tenant_slug: Option<String>,
    queue: String,
    created_at: Time,
    error: Option<JobError>,
}

impl JobRow {
    /// A table of these jobs.
    pub(super) fn table(caption: impl Into<String>, jobs: &[Self], empty: &'static str) -> Table {
        let row = |job: &Self| {
            [
                Cell::link(format!("/console/jobs/{}", job.id), &job.kind),
                Cell::state(&job.state),
                Cell::tenant(job.tenant_slug.as_deref()),
                Cell::time(&job.created_at),
                Cell::text(job.error_text()),
            ]
        };
        Table::new(
            caption,
            ["Kind", "State", "Tenant", "Created", "Last error"],
            jobs.iter().map(row),
            empty,
        )
    }

    /// Code and message of the last error.
    fn error_text(&self) -> String {
        self.error.as_ref().map(JobError::text).unwrap_or_default()
    }
}

/// Last error of a job or a step.
#[derive(Debug, Deserialize)]
pub(super) struct JobError {
    pub(super) code: String,
    pub(super) message: String,
    pub(super) operation: Option<String>,
    pub(super) detail: Option<String>,
}

impl JobError {
    /// Code and message.
    fn text(&self) -> String {
        format!("{}: {}", self.code, self.message)
    }

    /// Code and message, and what the upstream said.
    pub(super) fn cell(&self) -> Cell {
        let detail = self.detail.as_deref().map(Cell::code);
        Cell::text(self.text()).and(detail.unwrap_or_default())
    }
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
    filters: Vec<Field>,
    jobs: Vec<JobRow>,
    next: Option<String>,
    stats: JobStats,
    on_selected: Vec<SelectedAction>,
    /// Fields of an operation on all jobs that match.
    selection: Vec<Field>,
    /// Actions of such an operation, with their labels. Empty if no operation can select these jobs.
    operations: Vec<(&'static str, &'static str)>,
}

/// An action on the selected jobs.
#[derive(Debug)]
struct SelectedAction {
    name: &'static str,
    label: &'static str,
    question: Option<Question>,
}

impl SelectedAction {
    /// The actions that the operator's role has.
    fn all(frame: &Frame) -> Vec<Self> {
        let action = |(name, label)| {
            let action = frame.action("jobs", name)?;
            Some(Self {
                name,
                label,
                question: Question::new(action, "the selected jobs"),
            })
        };
        let actions = [
            ("requeue", "Requeue"),
            ("cancel", "Cancel"),
            ("dismiss", "Dismiss"),
        ];
        actions.into_iter().filter_map(action).collect()
    }
}

/// Actions that apply to all jobs in a state.
fn operations_on(state: &str) -> Vec<(&'static str, &'static str)> {
    let (requeue, cancel) = (("requeue", "Requeue all"), ("cancel", "Cancel all"));
    match state {
        "available" => vec![requeue, cancel, ("discard", "Discard all")],
        "running" => vec![cancel],
        "discarded" => vec![requeue, ("dismiss", "Dismiss all")],
        _ => vec![requeue],
    }
}

/// The filters of the list.
fn filters(parameters: &Parameters) -> Vec<Field> {
    let value = |name| text(parameters, name);
    vec![
        Field::hidden("state", value("state").unwrap_or_default()),
        Field::text("Kind", "kind", value("kind")),
        Field::choice("Queue", "queue", &QUEUES, value("queue")),
        Field::text("Tenant", "tenant", value("tenant")),
        Field::text("Error code", "errorCode", value("errorCode")),
        Field::text("Words", "q", value("q")),
    ]
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let jobs = List::<JobRow>::read(&request, "/jobs", &LIST);
    let stats = path_with("/jobs/stats", &request.parameters, &FILTERS, &[]);
    let (jobs, stats) = tokio::try_join!(jobs, request.get::<JobStats>(&stats))?;
    let current = request.text("state");
    let chip = |state: &'static str| Chip {
        state: Word::new(state),
        number: stats.in_state(state),
        path: path_with(
            "/console/jobs",
            &request.parameters,
            &FILTERS,
            &[("state", state)],
        ),
        is_current: current == Some(state),
    };
    let next = jobs.next_page(&request, "/console/jobs", &LIST);
    let frame = request.frame("/console/jobs", "Jobs")?;
    let others = ["tenant", "q", "parent"];
    let is_selectable = others.iter().all(|name| request.text(name).is_none());
    let selected = current.filter(|_| frame.may_write() && is_selectable);
    let field = |name| Field::hidden(name, request.text(name).unwrap_or_default());
    let page = JobsPage {
        on_selected: SelectedAction::all(&frame),
        frame,
        chips: STATES.map(chip).into(),
        all: path_with("/console/jobs", &request.parameters, &FILTERS, &[]),
        has_state: current.is_some(),
        filters: filters(&request.parameters),
        jobs: jobs.items,
        next,
        selection: SELECTION.map(field).into(),
        operations: selected.map(operations_on).unwrap_or_default(),
        stats,
    };
    Ok(respond(StatusCode::OK, &page))
}
