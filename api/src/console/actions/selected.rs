//! Actions on the selected jobs of a list.

use axum::{extract, response::Response};

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::Frame,
        pages::ListPage,
        query::{Parameters, segment},
        submission::Submission,
        table::{Cell, Table},
        text::{State, count},
    },
    confirmation, found,
};
use crate::error::ProblemCode;

/// Maximum number of selected jobs: those of a page.
const MAX_SELECTED: usize = 100;

/// Runs an action on each selected job. A job for which it is not possible does not keep it from the others.
pub(in crate::console) async fn run(
    extract::State(console): extract::State<ConsoleState>,
    submission: Submission,
) -> Result<Response, Failure> {
    let session = &submission.session;
    let name = submission.text("action").unwrap_or_default();
    let action = found(session, "jobs", name)?;
    let ids: Vec<&str> = submission
        .all("id")
        .map(segment)
        .collect::<Result<_, _>>()?;
    if ids.is_empty() || ids.len() > MAX_SELECTED {
        let detail = "Select 1 to 100 jobs.";
        return Err(Failure::new(ProblemCode::InvalidRequest, detail));
    }
    if action.needs_confirmation(submission.is_confirmed()) {
        let target = count(u64::try_from(ids.len()).unwrap_or(u64::MAX), "job");
        let path = "/console/jobs/selected".to_owned();
        return confirmation::ask(&submission, action, &target, path);
    }
    let key = submission.key()?;
    let (mut rows, mut done) = (Vec::new(), 0);
    for id in ids {
        let path = format!("/jobs/{id}/{name}");
        let result = console.routes.post(session, &path, None, key).await;
        let failure = result.err().map(|failure| failure.summary());
        let state = State::new(if failure.is_none() { "done" } else { "failed" });
        done += usize::from(failure.is_none());
        rows.push([
            Cell::link(format!("/console/jobs/{id}"), id),
            Cell::state(&state),
            Cell::text(failure.unwrap_or_default()),
        ]);
    }
    let summary = format!("{}: {done} of {} done.", action.label, rows.len());
    let (title, parameters) = ("Selected jobs", Parameters::new());
    let frame = Frame::new(session, "/console/jobs", title, &parameters)?;
    let columns = ["Job", "Result", "Reason"];
    let table = Table::new("Result for each job", columns, rows, "None.");
    let page = ListPage::new(frame.still(), table).with_sentence(summary);
    Ok(page.with_link("/console/jobs", "All jobs").respond())
}
