//! Commands on partners.

use serde_json::{Value, json};

use super::super::{failure::Failure, routes::Command, submission::Submission};

/// The command of the action `name` on the partner `slug`. The slug of a new one is a field of its form.
pub(super) fn command(name: &str, slug: &str, submission: &Submission) -> Result<Command, Failure> {
    let path = format!("/partners/{slug}");
    Ok(match name {
        "create" => {
            let mut partner = terms(submission);
            partner["slug"] = submission.text("slug").into();
            Command::post("/partners").with_body(partner)
        }
        "update" => Command::patch(path)
            .with_body(terms(submission))
            .on_revision(submission.number("revision")?),
        "contact" => Command::patch(path)
            .with_body(json!({ "contactInfo": contact(submission) }))
            .on_revision(submission.number("revision")?),
        "terminate" => Command::delete(path),
        "restore" => Command::patch(path).with_body(json!({ "status": "active" })),
        "adjust" => Command::post(format!("{path}/ledger")).with_body(json!({
            "currency": submission.text("currency"),
            "amountMinor": submission.number("amountMinor")?,
            "reason": submission.text("reason"),
        })),
        _ => Command::post("/payouts").with_body(json!({
            "partner": slug,
            "currency": submission.text("currency"),
            "month": submission.text("month"),
        })),
    })
}

/// The contact person in a form. An empty field removes the value.
fn contact(submission: &Submission) -> Value {
    json!({
        "name": submission.text("contactName"),
        "email": submission.text("contactEmail"),
        "phone": submission.text("contactPhone"),
    })
}

/// The terms in a form. An empty field removes the value, except those that every partner has.
fn terms(submission: &Submission) -> Value {
    let mut terms = json!({});
    for required in ["name", "marginPct"] {
        if let Some(text) = submission.text(required) {
            terms[required] = text.into();
        }
    }
    for optional in ["domain", "supportEmail", "defaultPlan"] {
        terms[optional] = submission.text(optional).into();
    }
    if let Some(Ok(margin)) = submission.text("marginPct").map(str::parse::<f64>) {
        terms["marginPct"] = margin.into();
    }
    terms
}
