//! Which events are asked for.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Outcome, words},
    store::audit::AuditFilter,
    tenant::Tenant,
};
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldError},
    extract::{Caller, FromQuery, Page, Parameters},
    validate,
};

/// The longest text that is searched for, in characters.
const TEXT_LENGTH: usize = 200;
/// The most words in it.
const WORDS: usize = 8;

/// Which events of all trails are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PlatformQuery {
    /// Only those of the trail of the tenant with this slug.
    pub(super) tenant: Option<String>,
    #[param(ignore)]
    pub(super) events: AuditQuery,
}

/// Which events are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct AuditQuery {
    /// Only those with all of these words: up to 8, each whole, whatever the case, in the action, the name of the
    /// target, or the name or e-mail address of whoever did it; of operators neither.
    #[param(value_type = Option<String>, max_length = 200, example = "domain example")]
    q: Vec<String>,
    /// Only this action.
    #[param(value_type = Option<String>, example = "tenant.suspend")]
    action: Option<Action>,
    /// Only what is carried out by a job (`accepted`), or what was complete at once (`done`).
    #[param(value_type = Option<String>, pattern = "^(accepted|done)$", example = "done")]
    outcome: Option<Outcome>,
    /// Only what somebody with this e-mail address did.
    actor_email: Option<String>,
    /// Only what was done at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime>,
    /// Only what was done earlier than this (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<DateTime>,
    #[param(ignore)]
    pub(super) page: Page,
}

impl AuditQuery {
    /// What `caller` finds so in the trail of `tenant`, or in all.
    pub(super) fn filter(&self, caller: &Caller, tenant: Option<&Tenant>) -> AuditFilter {
        AuditFilter {
            tenant: tenant.map(|tenant| tenant.id),
            words: self.q.clone(),
            action: self.action,
            outcome: self.outcome,
            actor_email: self.actor_email.clone(),
            hides_operators: !caller.is_operator(),
            since: self.since,
            before: self.before,
        }
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
        let action = parameters.take("action", "an action such as tenant.create")?;
        let outcome = parameters.take("outcome", "accepted or done")?;
        let page = Page::from_query(parameters)?;
        let mut wrong = Vec::new();
        let query = Self {
            q: search(parameters, &mut wrong),
            action,
            outcome,
            actor_email: parameters.text("actorEmail"),
            since: time("since", parameters, &mut wrong),
            before: time("before", parameters, &mut wrong),
            page,
        };
        if wrong.is_empty() {
            Ok(query)
        } else {
            Err(ApiError::invalid(wrong))
        }
    }
}

/// The words that are searched for.
fn search(parameters: &mut Parameters, wrong: &mut Vec<FieldError>) -> Vec<String> {
    let Some(text) = parameters.text("q") else {
        return Vec::new();
    };
    let words: Vec<String> = words(&text).collect();
    if text.chars().count() > TEXT_LENGTH {
        let message = format!("q has at most {TEXT_LENGTH} characters.");
        wrong.push(FieldError::parameter("q", "too_long", message));
    } else if !(1..=WORDS).contains(&words.len()) {
        let message = format!("q has 1 to {WORDS} words of letters and digits.");
        wrong.push(FieldError::parameter("q", "out_of_range", message));
    }
    words
}

fn time(name: &str, parameters: &mut Parameters, wrong: &mut Vec<FieldError>) -> Option<DateTime> {
    let time = validate::time(&parameters.text(name)?);
    time.map_err(|(code, message)| wrong.push(FieldError::parameter(name, code, message)))
        .ok()
}
