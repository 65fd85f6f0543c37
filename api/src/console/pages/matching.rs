//! Operation on all jobs that match the filters of a list: a dry run first, then the number typed in.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    super::{
        ConsoleState,
        failure::{Failure, unexpected},
        html::respond,
        page::Frame,
        query::{Parameters, segment},
        session::random,
        submission::Submission,
        table::Table,
        text::count,
    },
    jobs::{JobRow, SELECTION},
};

/// Maximum number of jobs of an operation.
const MAX_JOBS: u64 = 10_000;
/// Field with the number that the dry run found.
const EXPECTED: &str = "expected";

/// Result of a dry run.
#[derive(Debug, Deserialize)]
struct Preview {
    total: u64,
    sample: Vec<JobRow>,
}

#[derive(Debug, Template)]
#[template(path = "console/matching.html")]
struct MatchingPage {
    frame: Frame,
    action: String,
    jobs: String,
    total: u64,
    sample: Table,
    /// Fields that are sent again.
    fields: Vec<(String, String)>,
}

impl MatchingPage {
    /// Whether an operation can take that many jobs.
    fn is_possible(&self) -> bool {
        (1..=MAX_JOBS).contains(&self.total)
    }
}

/// Shows which jobs match; with their number typed in, starts the operation.
pub(in crate::console) async fn run(
    State(console): State<ConsoleState>,
    submission: Submission,
) -> Result<Response, Failure> {
    let (session, key) = (&submission.session, submission.key()?);
    let action = submission.text("action").unwrap_or_default();
    let mut operation = json!({ "action": action, "filter": filter(&submission) });
    let Some(expected) = submission.text(EXPECTED) else {
        operation["dryRun"] = true.into();
        let path = "/job-operations";
        let preview = console
            .routes
            .post(session, path, Some(&operation), &random()?)
            .await?;
        let preview: Preview = serde_json::from_value(preview)
            .map_err(|error| unexpected(error.into(), &session.request))?;
        let title = "All jobs that match";
        let frame = Frame::new(session, "/console/jobs", title, &Parameters::new())?;
        let page = MatchingPage {
            frame: frame.still().with_key(key),
            action: action.to_owned(),
            jobs: count(preview.total, "job"),
            total: preview.total,
            sample: JobRow::table("A sample of them", &preview.sample, "No job matches."),
            fields: submission.repeated(),
        };
        return Ok(respond(StatusCode::OK, &page));
    };
    operation["expectedCount"] = typed(&submission, expected)?.into();
    if let Some(rate) = submission.text("rate") {
        operation["rate"] = rate.parse::<u32>().unwrap_or_default().into();
    }
    let path = "/job-operations";
    let response = console
        .routes
        .post(session, path, Some(&operation), key)
        .await?;
    let id = segment(response["id"].as_str().unwrap_or_default())?;
    let page = format!("/console/operations/{id}");
    Ok(Redirect::to(&page).into_response())
}

/// The filters that are set.
fn filter(submission: &Submission) -> Value {
    let set = SELECTION.iter().filter_map(|name| {
        let value = submission.text(name)?;
        Some(((*name).to_owned(), Value::from(value)))
    });
    Value::Object(set.collect::<Map<_, _>>())
}

/// The number of jobs, if it was typed in as the dry run found it.
fn typed(submission: &Submission, expected: &str) -> Result<u64, Failure> {
    let typed = submission.text("typed");
    let number = expected.parse().ok();
    number.filter(|_| typed == Some(expected)).ok_or_else(|| {
        Failure::titled(
            StatusCode::UNPROCESSABLE_ENTITY,
            "The numbers differ",
            "Nothing was changed. Go back, and type the number of jobs that the page shows.",
        )
    })
}
