//! Actions on the selected jobs of a list.

use askama::Template;
use axum::{extract::State, response::Response};
use http::StatusCode;

use super::{
    super::{
        ConsoleState,
        failure::Failure,
        page::{Frame, respond},
        query::{Parameters, segment},
        submission::Submission,
        text::count,
    },
    confirmation, found,
};
use crate::error::ProblemCode;

/// Maximum number of selected jobs: those of a page.
const MAX_SELECTED: usize = 100;

/// What became of a selected job.
#[derive(Debug)]
struct Outcome {
    id: String,
    /// Why the action was not possible.
    failure: Option<String>,
}

/// The page with the outcomes.
#[derive(Debug, Template)]
#[template(path = "console/selected.html")]
struct SelectedPage {
    frame: Frame,
    summary: String,
    outcomes: Vec<Outcome>,
}

/// Runs an action on each selected job. A job for which it is not possible does not keep it from the others.
pub(in crate::console) async fn run(
    State(console): State<ConsoleState>,
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
    if action.needs_confirmation(&submission) {
        let target = count(u64::try_from(ids.len()).unwrap_or(u64::MAX), "job");
        let path = "/console/jobs/selected".to_owned();
        return confirmation::ask(&submission, action, &target, path);
    }
    let key = submission.key()?;
    let mut outcomes = Vec::new();
    for id in ids {
        let path = format!("/jobs/{id}/{name}");
        let result = console.routes.post(session, &path, None, key).await;
        outcomes.push(Outcome {
            id: id.to_owned(),
            failure: result.err().map(|failure| failure.summary()),
        });
    }
    let failed = outcomes.iter().filter(|it| it.failure.is_some()).count();
    let page = SelectedPage {
        frame: Frame::new(
            session,
            "/console/jobs",
            "Selected jobs",
            &Parameters::new(),
        )?,
        summary: format!(
            "{}: {} of {} done.",
            action.label,
            outcomes.len() - failed,
            outcomes.len()
        ),
        outcomes,
    };
    Ok(respond(StatusCode::OK, &page))
}
