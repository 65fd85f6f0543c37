//! One job: why it waits, its steps, its attempts, its arguments and its relatives.

mod arguments;
mod times;

use std::collections::BTreeMap;

use askama::Template;
use axum::{extract::Path, response::Response};
use http::StatusCode;
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Form,
        html::respond,
        page::Frame,
        page_request::PageRequest,
        query::segment,
        table::{Cell, Table},
        text::{State as Word, Time},
        timeline::Timeline,
    },
    jobs::JobError,
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Job {
    id: String,
    kind: String,
    state: Word,
    tenant_slug: Option<String>,
    queue: String,
    run_at: Time,
    attempt: i64,
    max_attempts: Option<i64>,
    snoozes: i64,
    steps: Vec<Step>,
    #[serde(default)]
    attempts: Vec<Attempt>,
    error: Option<JobError>,
    parent: Option<String>,
    #[serde(default)]
    children: BTreeMap<String, u64>,
    superseded_by: Option<String>,
    requeued_from: Option<String>,
    requeued_to: Option<String>,
    dismissed_at: Option<Time>,
    traceparent: Option<String>,
    created_at: Time,
    finished_at: Option<Time>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    name: String,
    state: Word,
    attempts: i64,
    started_at: Option<Time>,
    finished_at: Option<Time>,
    next_attempt_at: Option<Time>,
    changes: Vec<String>,
    error: Option<JobError>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Attempt {
    n: i64,
    worker: String,
    started_at: Time,
    finished_at: Time,
    outcome: Word,
    error: Option<String>,
    upstream_request_ids: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Explanation {
    next_run_at: Option<Time>,
    reasons: Vec<Reason>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reason {
    message: String,
    since: Option<Time>,
    until: Option<Time>,
    job_id: Option<String>,
}

/// A link to another job.
#[derive(Debug)]
struct Relative<'a> {
    label: &'static str,
    id: &'a str,
}

impl Job {
    fn can_requeue(&self) -> bool {
        !self.state.is("running")
    }

    fn can_cancel(&self) -> bool {
        self.state.is("available") || self.state.is("running")
    }

    fn can_dismiss(&self) -> bool {
        self.state.is("discarded") && self.dismissed_at.is_none()
    }

    fn relatives(&self) -> Vec<Relative<'_>> {
        let all = [
            ("Created by", &self.parent),
            ("Superseded by", &self.superseded_by),
            ("Repeats", &self.requeued_from),
            ("Repeated by", &self.requeued_to),
        ];
        let relatives = all.into_iter().filter_map(|(label, id)| {
            let id = id.as_deref()?;
            Some(Relative { label, id })
        });
        relatives.collect()
    }

    /// The forms of the actions that are possible in the job's state.
    fn forms(&self, frame: &Frame) -> Vec<Form> {
        let form = |action, label: &str, is_possible: bool| {
            let form = frame.form("jobs", &self.id, action, label);
            form.filter(|_| is_possible)
        };
        let forms = [
            form("requeue", "Requeue", self.can_requeue()),
            form("cancel", "Cancel", self.can_cancel()),
            form("dismiss", "Dismiss", self.can_dismiss()),
        ];
        forms.into_iter().flatten().collect()
    }

    fn step_table(&self) -> Table {
        Table::new(
            "Steps of the job",
            [
                "Step",
                "State",
                "Failures",
                "Started",
                "Finished",
                "Next attempt",
                "Changes",
                "Error",
            ],
            self.steps.iter().map(Step::row),
            "The job has no steps.",
        )
    }

    fn attempt_table(&self) -> Table {
        Table::new(
            "Attempts, newest first",
            [
                "Number",
                "Outcome",
                "Started",
                "Finished",
                "Worker",
                "Reason",
                "Request ids of upstreams",
            ],
            self.attempts.iter().rev().map(Attempt::row),
            "No attempt has ended yet.",
        )
    }
}

impl Step {
    fn row(&self) -> [Cell; 8] {
        [
            Cell::text(&self.name),
            Cell::state(&self.state),
            Cell::text(self.attempts.to_string()),
            Cell::time(&self.started_at),
            Cell::time(&self.finished_at),
            Cell::time(&self.next_attempt_at),
            Cell::lines(self.changes.clone()),
            self.error.as_ref().map(JobError::cell).unwrap_or_default(),
        ]
    }
}

impl Attempt {
    fn row(&self) -> [Cell; 7] {
        [
            Cell::text(self.n.to_string()),
            Cell::state(&self.outcome),
            Cell::time(&self.started_at),
            Cell::time(&self.finished_at),
            Cell::text(&self.worker),
            Cell::text(self.error.as_deref().unwrap_or_default()),
            Cell::code(self.upstream_request_ids.join(" ")),
        ]
    }
}

#[derive(Debug, Template)]
#[template(path = "console/job.html")]
struct JobPage {
    forms: Vec<Form>,
    times: Option<Timeline>,
    steps: Table,
    attempts: Table,
    arguments: Table,
    frame: Frame,
    job: Job,
    explanation: Explanation,
}

pub(in crate::console) async fn show(
    request: PageRequest,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = segment(&id)?;
    let (job, explanation) = (format!("/jobs/{id}"), format!("/jobs/{id}/explain"));
    let (job, explanation) = tokio::try_join!(
        request.get::<Job>(&job),
        request.get::<Explanation>(&explanation),
    )?;
    let arguments = arguments::table(&request.console, &job.id).await?;
    let now = request.console.app.store.now().timestamp_millis();
    let title = format!("Job {}", job.kind);
    let frame = request.frame("/console/jobs", title)?;
    let page = JobPage {
        forms: job.forms(&frame),
        times: job.times(now),
        steps: job.step_table(),
        attempts: job.attempt_table(),
        arguments,
        frame,
        job,
        explanation,
    };
    Ok(respond(StatusCode::OK, &page))
}
