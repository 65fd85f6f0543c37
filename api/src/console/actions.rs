//! Actions: each form of a page is a command of the API, after a confirmation where it is destructive.

pub(super) mod catalogue;
mod confirmation;
pub(super) mod selected;

use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use serde_json::{Value, json};

use self::catalogue::Action;
use super::{
    ConsoleState, failure::Failure, query::segment, session::Session, submission::Submission,
};
use crate::error::ProblemCode;

/// Runs an action on one resource, and shows what became of it.
pub(super) async fn run(
    State(console): State<ConsoleState>,
    Path((resource, id, name)): Path<(String, String, String)>,
    submission: Submission,
) -> Result<Response, Failure> {
    let action = found(&submission.session, &resource, &name)?;
    let id = segment(&id)?;
    if action.needs_confirmation(&submission) {
        let path = format!("/console/{resource}/{id}/{name}");
        return confirmation::ask(&submission, action, id, path);
    }
    let path = api_path(action, id, &submission)?;
    let body = body(action, &submission);
    let key = submission.key()?;
    let response = console
        .routes
        .post(&submission.session, &path, body.as_ref(), key)
        .await?;
    let page = page_after(action, id, &response);
    let target = format!("{page}?notice={}", action.notice_name());
    Ok(Redirect::to(&target).into_response())
}

/// The action, if the operator's role has it. The API checks the role as well.
fn found(session: &Session, resource: &str, name: &str) -> Result<&'static Action, Failure> {
    let action = catalogue::find(resource, name);
    let action =
        action.ok_or_else(|| Failure::new(ProblemCode::NotFound, "There is no such action."))?;
    if session.role >= action.least_role {
        Ok(action)
    } else {
        Err(Failure::new(
            ProblemCode::Forbidden,
            "Your role does not include this action.",
        ))
    }
}

/// Path of the command. Those of an invoice and of an invoice run are below its tenant.
fn api_path(action: &Action, id: &str, submission: &Submission) -> Result<String, Failure> {
    let Action { resource, name, .. } = action;
    Ok(match (*resource, *name) {
        ("tenants", "invoice") => format!("/tenants/{id}/billing/invoice"),
        ("invoices", _) => {
            let tenant = segment(submission.text("tenant").unwrap_or_default())?;
            format!("/tenants/{tenant}/invoices/{id}/{name}")
        }
        _ => format!("/{resource}/{id}/{name}"),
    })
}

/// The body of the command.
fn body(action: &Action, submission: &Submission) -> Option<Value> {
    let texts = |fields: &[&str]| {
        let mut body = json!({});
        for field in fields {
            if let Some(text) = submission.text(field) {
                body[*field] = text.into();
            }
        }
        Some(body)
    };
    match action.name {
        "pause" => texts(&["reason", "until"]),
        "mark-paid" => texts(&["reference"]),
        "void" => texts(&["reason"]),
        "run" | "reconcile" | "invoice" => {
            let dry_run = submission.text("dry_run").is_some();
            Some(json!({ "dryRun": dry_run }))
        }
        _ => None,
    }
}

/// The page that shows the effect: of the job that carries the action out, or of the resource.
fn page_after(action: &Action, id: &str, response: &Value) -> String {
    let job = match (action.resource, action.name) {
        ("jobs", _) => response["id"].as_str(),
        ("schedules", _) | (_, "reconcile" | "invoice") => response["job"]["id"].as_str(),
        _ => None,
    };
    match job.map(segment) {
        Some(Ok(job)) => format!("/console/jobs/{job}"),
        _ => match action.resource {
            resource @ ("jobs" | "tenants") => format!("/console/{resource}/{id}"),
            resource => format!("/console/{resource}"),
        },
    }
}
