//! Submitted forms: of a page of the console, by the person who is signed in.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use axum::{
    Form,
    extract::{FromRequest, FromRequestParts as _, Request},
};
use http::{HeaderMap, header};

use super::{
    ConsoleState,
    failure::Failure,
    session::{Rejection, Session},
};
use crate::error::ProblemCode;

/// Field with the token of the session.
const TOKEN: &str = "form_token";
/// Field with the idempotency key: a form that is sent twice has one effect.
const KEY: &str = "form_key";
/// Field that confirms a destructive action.
const CONFIRMED: &str = "confirmed";

/// A submitted form.
#[derive(Debug)]
pub(super) struct Submission {
    /// Session that submitted it.
    pub(super) session: Session,
    fields: Vec<(String, String)>,
}

impl Submission {
    /// The value of a field, unless it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.all(name).find(|value| !value.is_empty())
    }

    /// All values of a field.
    pub(super) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        let values = self.fields.iter().filter(move |(field, _)| field == name);
        values.map(|(_, value)| value.trim())
    }

    /// Whether the person confirmed the action.
    pub(super) fn is_confirmed(&self) -> bool {
        self.text(CONFIRMED).is_some()
    }

    /// The idempotency key of the form.
    pub(super) fn key(&self) -> Result<&str, Failure> {
        self.text(KEY).ok_or_else(incomplete)
    }

    /// The number in a field that the page filled in.
    pub(super) fn number(&self, name: &str) -> Result<i64, Failure> {
        let number = self.text(name).and_then(|text| text.parse().ok());
        number.ok_or_else(incomplete)
    }

    /// The fields that a confirmation repeats.
    pub(super) fn repeated(&self) -> Vec<(String, String)> {
        let own = [TOKEN, KEY, CONFIRMED];
        let fields = self.fields.iter();
        let repeated = fields.filter(|(name, _)| !own.contains(&name.as_str()));
        repeated.cloned().collect()
    }
}

impl FromRequest<ConsoleState> for Submission {
    type Rejection = Rejection;

    async fn from_request(request: Request, console: &ConsoleState) -> Result<Self, Rejection> {
        if !is_same_origin(request.headers(), &console.config.origin) {
            return Err(Rejection::Failed(Failure::new(
                ProblemCode::Forbidden,
                "The form was not sent by a page of the console.",
            )));
        }
        let (mut parts, body) = request.into_parts();
        let session = Session::from_request_parts(&mut parts, console).await?;
        let request = Request::from_parts(parts, body);
        let Ok(Form(fields)) = Form::<Vec<(String, String)>>::from_request(request, console).await
        else {
            return Err(Rejection::Failed(Failure::new(
                ProblemCode::InvalidRequest,
                "The form cannot be read.",
            )));
        };
        let submission = Self { session, fields };
        let sent = submission.text(TOKEN).unwrap_or_default();
        let expected = &submission.session.form_token;
        if verify_slices_are_equal(sent.as_bytes(), expected.as_bytes()).is_err() {
            return Err(Rejection::Failed(Failure::new(
                ProblemCode::Forbidden,
                "The form is of another session. Open the page again.",
            )));
        }
        Ok(submission)
    }
}

/// Failure of a form without a field that the page has.
pub(super) fn incomplete() -> Failure {
    Failure::new(
        ProblemCode::InvalidRequest,
        "The form is incomplete. Open the page again.",
    )
}

/// Whether a browser says that the request comes from the console's own origin.
fn is_same_origin(headers: &HeaderMap, origin: &str) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => site == "same-origin",
        None => headers
            .get(header::ORIGIN)
            .is_some_and(|from| from == origin),
    }
}
