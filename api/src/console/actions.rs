//! Actions: each form of a page is a command of the API, after a confirmation where it is destructive.

pub(super) mod catalogue;
mod confirmation;
mod flag;
mod partner;
pub(super) mod selected;

use axum::{
    extract::{Path, State},
    response::{IntoResponse as _, Redirect, Response},
};
use serde_json::{Value, json};

use self::catalogue::Action;
use super::{
    Console, ConsoleState, failure::Failure, query::segment, routes::Command, session::Session,
    submission::Submission,
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
    if action.needs_confirmation(submission.is_confirmed()) {
        let path = format!("/console/{resource}/{id}/{name}");
        return confirmation::ask(&submission, action, id, path);
    }
    let command = command(&console, action, id, &submission).await?;
    let (session, key) = (&submission.session, submission.key()?);
    let response = console.routes.send(session, &command, key).await?;
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

/// The command of the API that the action is.
async fn command(
    console: &Console,
    action: &Action,
    id: &str,
    submission: &Submission,
) -> Result<Command, Failure> {
    match action.resource {
        "flags" => flag::command(console, action.name, id, submission).await,
        "partners" => partner::command(action.name, id, submission),
        _ => {
            let path = api_path(action, id, submission)?;
            Ok(Command::post(path).with_body(body(action, submission)))
        }
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
        ("schedules", _) | (_, "reconcile" | "invoice" | "payout") => {
            response["job"]["id"].as_str()
        }
        _ => None,
    };
    if let Some(Ok(job)) = job.map(segment) {
        return format!("/console/jobs/{job}");
    }
    let own = match (action.resource, action.name) {
        ("flags", "create") => response["key"].as_str(),
        ("partners", "create") => response["slug"].as_str(),
        ("jobs" | "tenants" | "flags" | "partners", name) if name != "delete" => Some(id),
        _ => None,
    };
    let resource = action.resource;
    match own.map(segment) {
        Some(Ok(name)) => format!("/console/{resource}/{name}"),
        _ => format!("/console/{resource}"),
    }
}
