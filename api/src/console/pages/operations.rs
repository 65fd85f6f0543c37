//! Bulk operations on jobs.

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

/// An operation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) id: String,
    pub(super) action: String,
    filter: Filter,
    rate: Option<u32>,
    total: i64,
    pending: i64,
    done: i64,
    skipped: i64,
    refused: i64,
    pub(super) job: Option<OperationJob>,
    created_at: Time,
    finished_at: Option<Time>,
}

/// Filters that select the jobs.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Filter {
    state: String,
    kind: Option<String>,
    queue: Option<String>,
    tenant_id: Option<String>,
    error_code: Option<String>,
    error_class: Option<String>,
}

/// The job that carries an operation out.
#[derive(Debug, Deserialize)]
pub(super) struct OperationJob {
    pub(super) id: String,
    pub(super) state: Word,
}

impl Operation {
    /// The selected jobs, in words.
    pub(super) fn selection(&self) -> String {
        let Filter {
            state,
            kind,
            queue,
            tenant_id,
            error_code,
            error_class,
        } = &self.filter;
        let filters = [
            ("kind", kind),
            ("queue", queue),
            ("tenant", tenant_id),
            ("error", error_code),
            ("class", error_class),
        ];
        let mut words = vec![format!("{state} jobs")];
        for (name, value) in filters {
            words.extend(value.as_ref().map(|value| format!("{name} {value}")));
        }
        words.join(", ")
    }

    /// Progress, in words.
    pub(super) fn progress(&self) -> String {
        let Self {
            total,
            pending,
            done,
            skipped,
            refused,
            ..
        } = self;
        format!("{done} of {total} done, {skipped} skipped, {refused} refused, {pending} pending")
    }

    fn row(&self) -> [Cell; 7] {
        let job = self.job.as_ref().map(|job| Cell::state(&job.state));
        let rate = self.rate.map(|rate| format!("{rate} per second"));
        [
            Cell::link(format!("/console/operations/{}", self.id), &self.action),
            Cell::text(self.selection()),
            job.unwrap_or_default(),
            Cell::text(self.progress()),
            Cell::text(rate.unwrap_or_default()),
            Cell::time(&self.created_at),
            Cell::time(&self.finished_at),
        ]
    }
}

pub(in crate::console) async fn show(request: PageRequest) -> Result<Response, Failure> {
    let operations = List::<Operation>::read(&request, "/job-operations", &[]).await?;
    let section = "/console/operations";
    let next = operations.next_page(&request, section, &[]);
    let frame = request.frame(section, "Operations")?;
    let table = Table::new(
        "Operations on jobs, newest first",
        [
            "Action", "Jobs", "State", "Progress", "Rate", "Created", "Finished",
        ],
        operations.items.iter().map(Operation::row),
        "There was no operation in the last 30 days. The list of jobs, filtered by a state, starts one.",
    );
    let page = ListPage::new(frame, table.with_next(next, "Older operations"));
    Ok(page.respond())
}
