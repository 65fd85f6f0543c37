//! Confirmation of a destructive action: the same form again, with what it does.

use askama::Template;
use axum::response::Response;
use http::StatusCode;

use super::{
    super::{
        failure::Failure, html::respond, page::Frame, query::Parameters, submission::Submission,
    },
    catalogue::Action,
};

/// The page that asks.
#[derive(Debug, Template)]
#[template(path = "console/confirmation.html")]
struct Confirmation<'a> {
    frame: Frame,
    path: String,
    target: &'a str,
    warning: &'static str,
    label: &'static str,
    /// Fields that are sent again.
    fields: Vec<(String, String)>,
}

/// Asks whether to run `action` on `target`, which the form at `path` does.
pub(super) fn ask(
    submission: &Submission,
    action: &Action,
    target: &str,
    path: String,
) -> Result<Response, Failure> {
    let session = &submission.session;
    let frame = Frame::new(session, "", "Confirmation", &Parameters::new())?;
    let page = Confirmation {
        frame: frame.still().with_key(submission.key()?),
        path,
        target,
        warning: action.warning.unwrap_or_default(),
        label: action.label,
        fields: submission.repeated(),
    };
    Ok(respond(StatusCode::OK, &page))
}
