//! Commands on feature flags. The API replaces all rules of a flag at once, so a change of one rule sends the others as they
//! are, on the revision that the page showed.

use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{
    Console,
    failure::Failure,
    routes::Command,
    submission::{Submission, incomplete},
};
use crate::error::ProblemCode;

/// The part of a flag that a change of its rules needs.
#[derive(Debug, Deserialize)]
struct Flag {
    revision: i64,
    rules: Vec<Value>,
}

/// The command of the action `name` on the flag `key`. The key of a new one is a field of its form.
pub(super) async fn command(
    console: &Console,
    name: &str,
    key: &str,
    submission: &Submission,
) -> Result<Command, Failure> {
    let path = format!("/flags/{key}");
    Ok(match name {
        "create" => Command::post("/flags").with_body(json!({
            "key": submission.text("key"),
            "description": submission.text("description"),
        })),
        "delete" => Command::delete(path),
        "kill" => Command::patch(path).with_body(json!({ "killSwitch": true })),
        "revive" => Command::patch(path).with_body(json!({ "killSwitch": false })),
        "default" => {
            let is_on = is_on(submission, "default");
            Command::patch(path).with_body(json!({ "default": is_on }))
        }
        _ => {
            let mut flag = as_shown(console, &path, submission).await?;
            change(&mut flag.rules, name, submission)?;
            Command::patch(path)
                .with_body(json!({ "rules": flag.rules }))
                .on_revision(flag.revision)
        }
    })
}

/// The flag, if it is still as the page showed it.
async fn as_shown(console: &Console, path: &str, submission: &Submission) -> Result<Flag, Failure> {
    let flag: Flag = console.routes.get(&submission.session, path).await?;
    if submission.number("revision")? == flag.revision {
        Ok(flag)
    } else {
        Err(Failure::new(
            ProblemCode::PreconditionFailed,
            "The flag was changed since the page was opened. Open the page again.",
        ))
    }
}

/// Adds the rule in the form, or moves or removes the one that it names.
fn change(rules: &mut Vec<Value>, name: &str, submission: &Submission) -> Result<(), Failure> {
    match name {
        "add-rule" => {
            let is_first = submission.text("position") == Some("first");
            let position = if is_first { 0 } else { rules.len() };
            rules.insert(position, rule(submission));
        }
        "move-rule" => {
            let position = position(rules, submission)?;
            let before = position.checked_sub(1).ok_or_else(incomplete)?;
            rules.swap(before, position);
        }
        _ => {
            let position = position(rules, submission)?;
            rules.remove(position);
        }
    }
    Ok(())
}

/// Position of the rule that the form names.
fn position(rules: &[Value], submission: &Submission) -> Result<usize, Failure> {
    let position = usize::try_from(submission.number("rule")?).ok();
    let position = position.filter(|position| *position < rules.len());
    position.ok_or_else(incomplete)
}

/// The rule in a form, with the conditions that are filled in. The API checks them.
fn rule(submission: &Submission) -> Value {
    let mut rule = json!({ "value": is_on(submission, "value") });
    for list in ["tenants", "partners", "plans"] {
        let names = submission.text(list).unwrap_or_default();
        let names = names.split([',', ' ']).filter(|name| !name.is_empty());
        let names: Vec<&str> = names.collect();
        if !names.is_empty() {
            rule[list] = names.into();
        }
    }
    if let Some(text) = submission.text("percentage") {
        let number = text.parse::<i64>();
        rule["percentage"] = number.map_or_else(|_| text.into(), Value::from);
    }
    for time in ["from", "until"] {
        if let Some(text) = submission.text(time) {
            rule[time] = text.into();
        }
    }
    rule
}

fn is_on(submission: &Submission, field: &str) -> bool {
    submission.text(field) == Some("on")
}
