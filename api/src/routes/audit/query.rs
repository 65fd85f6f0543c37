//! Which events are asked for.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Outcome, words},
    store::audit::AuditFilter,
};
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldError},
    extract::{FromQuery, Page, Parameters},
    fields,
};

/// The longest text that is searched for, in characters.
const TEXT_LENGTH: usize = 200;
/// The most words in it.
const WORDS: usize = 8;

/// Which events of a trail are asked for.
#[derive(Debug)]
pub(super) struct AuditQuery {
    pub(super) filter: AuditFilter,
    pub(super) page: Page,
}

/// Which events of all trails are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PlatformQuery {
    /// Only those of the trail of the tenant with this slug.
    pub(super) tenant: Option<String>,
    #[param(ignore)]
    pub(super) events: AuditQuery,
}

/// The parameters that [`AuditQuery`] is read from.
#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "it only describes them")]
struct Documented {
    /// Only those with all of these words: up to 8, each whole, whatever the case, in the action, the name of the
    /// target, or the name or e-mail address of whoever did it; of operators neither.
    #[param(max_length = 200, example = "domain example")]
    q: Option<String>,
    /// Only this action.
    #[param(example = "tenant.suspend")]
    action: Option<String>,
    /// Only what is carried out by a job (`accepted`), or what was complete at once (`done`).
    #[param(example = "done")]
    outcome: Option<String>,
    /// Only what somebody with this e-mail address did.
    actor_email: Option<String>,
    /// Only what was done at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime>,
    /// Only what was done earlier than this (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<DateTime>,
}

impl IntoParams for AuditQuery {
    fn into_params(
        place: impl Fn() -> Option<utoipa::openapi::path::ParameterIn>,
    ) -> Vec<utoipa::openapi::path::Parameter> {
        let mut parameters = Documented::into_params(&place);
        parameters.extend(Page::into_params(&place));
        parameters
    }
}

impl FromQuery for PlatformQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            tenant: parameters.text("tenant"),
            events: AuditQuery::from_query(parameters)?,
        })
    }
}

impl FromQuery for AuditQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let action: Option<Action> =
            parameters.take("action", "an action such as tenant.create")?;
        let outcome: Option<Outcome> = parameters.take("outcome", "accepted or done")?;
        let actor_email = parameters.text("actorEmail");
        let mut wrong = Vec::new();
        let filter = AuditFilter {
            words: parameters
                .text("q")
                .and_then(|text| words_of(&text).map_err(|error| wrong.push(error)).ok())
                .unwrap_or_default(),
            action,
            outcome,
            actor_email,
            since: time("since", parameters, &mut wrong),
            before: time("before", parameters, &mut wrong),
            ..AuditFilter::default()
        };
        if !wrong.is_empty() {
            return Err(ApiError::values(wrong));
        }
        Ok(Self {
            filter,
            page: Page::from_query(parameters)?,
        })
    }
}

fn words_of(text: &str) -> Result<Vec<String>, FieldError> {
    if text.chars().count() > TEXT_LENGTH {
        let message = format!("q has at most {TEXT_LENGTH} characters.");
        return Err(FieldError::parameter("q", "too_long", message));
    }
    let words: Vec<String> = words(text).collect();
    if !(1..=WORDS).contains(&words.len()) {
        let message = format!("q has 1 to {WORDS} words of letters and digits.");
        return Err(FieldError::parameter("q", "out_of_range", message));
    }
    Ok(words)
}

fn time(name: &str, parameters: &mut Parameters, wrong: &mut Vec<FieldError>) -> Option<DateTime> {
    let time = fields::time(&parameters.text(name)?);
    time.map_err(|(code, message)| wrong.push(FieldError::parameter(name, code, message)))
        .ok()
}
