//! Schedules of recurring jobs.

use axum::response::Response;
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
};

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Schedule {
    name: String,
    purpose: String,
    expression: String,
    zone: String,
    can_dry_run: bool,
    next_at: Option<Time>,
    last: Option<Run>,
    missed: i64,
}

#[derive(Debug, Deserialize)]
struct Run {
    instant: Time,
    job: Option<RunJob>,
}

#[derive(Debug, Deserialize)]
struct RunJob {
    id: String,
    state: Word,
}

impl Run {
    fn cell(&self) -> Cell {
        let instant = Cell::time(&self.instant);
        match &self.job {
            None => instant,
            Some(job) => instant
                .and(Cell::state(&job.state))
                .and(Cell::link(format!("/console/jobs/{}", job.id), "its job")),
        }
    }
}

impl Schedule {
    fn row(&self) -> [Cell; 6] {
        [
            Cell::text(&self.name),
            Cell::text(&self.purpose),
            Cell::code(&self.expression).and(Cell::text(&self.zone)),
            Cell::time(&self.next_at),
            self.last.as_ref().map(Run::cell).unwrap_or_default(),
            Cell::text(self.missed.to_string()),
        ]
    }

    fn forms(&self, frame: &Frame) -> Vec<Form> {
        let label = format!("Run {}", self.name);
        let form = frame.form("schedules", &self.name, "run", label);
        let form = form.map(|form| {
            if self.can_dry_run {
                form.with_dry_run()
            } else {
                form
            }
        });
        form.into_iter().collect()
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let schedules: List<Schedule> = request.get("/schedules").await?;
    let frame = request.frame("/console/schedules", "Schedules")?;
    let schedules = &schedules.items;
    let mut table = Table::new(
        "Schedules",
        ["Name", "Purpose", "Times", "Next run", "Last run", "Missed"],
        schedules.iter().map(Schedule::row),
        "There is no schedule.",
    );
    if frame.may_write() {
        table = table.with_forms(schedules.iter().map(|it| it.forms(&frame)));
    }
    Ok(ListPage::new(frame, table).respond())
}
