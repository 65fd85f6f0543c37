//! One operation on jobs: its progress, and what became of each job.

use axum::{extract::Path, response::Response};
use serde::Deserialize;

use super::{
    super::{
        failure::Failure,
        form::Field,
        page_request::PageRequest,
        query::segment,
        table::{Cell, Table},
        text::{State as Word, Time},
    },
    List, ListPage,
    operations::Operation,
};

/// Parameters of the list.
const FILTERS: [&str; 1] = ["outcome"];
/// Outcomes for a job.
const OUTCOMES: [&str; 4] = ["pending", "done", "skipped", "refused"];

/// The outcome for one job.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    n: i64,
    job_id: String,
    outcome: Word,
    code: Option<Word>,
    new_job_id: Option<String>,
    at: Option<Time>,
}

fn job_link(id: &str) -> Cell {
    Cell::link(format!("/console/jobs/{id}"), id)
}

impl Item {
    fn row(&self) -> [Cell; 6] {
        let new_job = self.new_job_id.as_deref().map(job_link);
        let reason = self.code.as_ref().map(ToString::to_string);
        [
            Cell::text(self.n.to_string()),
            job_link(&self.job_id),
            Cell::state(&self.outcome),
            Cell::text(reason.unwrap_or_default()),
            new_job.unwrap_or_default(),
            Cell::time(&self.at),
        ]
    }
}

pub(in crate::console) async fn show(
    request: PageRequest,
    Path(id): Path<String>,
) -> Result<Response, Failure> {
    let id = segment(&id)?;
    let path = format!("/job-operations/{id}");
    let items = format!("{path}/items");
    let (operation, items) = tokio::try_join!(
        request.get::<Operation>(&path),
        List::<Item>::read(&request, &items, &FILTERS),
    )?;
    let own = format!("/console/operations/{}", operation.id);
    let next = items.next_page(&request, &own, &FILTERS);
    let title = format!("Operation: {}", operation.action);
    let frame = request.frame("/console/operations", title)?;
    let table = Table::new(
        "Jobs, in order of processing",
        ["Number", "Job", "Outcome", "Reason", "New job", "Processed"],
        items.items.iter().map(Item::row),
        "No job matches.",
    );
    let sentence = format!("{}: {}.", operation.selection(), operation.progress());
    let mut page = ListPage::new(frame, table.with_next(next, "More jobs"))
        .with_sentence(sentence)
        .with_filters(vec![Field::choice(
            "Outcome",
            "outcome",
            &OUTCOMES,
            request.text("outcome"),
        )]);
    if let Some(job) = &operation.job {
        let label = format!("Its job run_job_operation ({})", job.state);
        page = page.with_link(format!("/console/jobs/{}", job.id), label);
    }
    Ok(page.respond())
}
