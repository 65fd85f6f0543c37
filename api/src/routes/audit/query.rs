//! Filters of audit events.

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

/// Maximum length of the search text, in characters.
const MAX_TEXT_LENGTH: usize = 200;
/// Maximum number of words in the search text.
const MAX_WORDS: usize = 8;

/// Filters of the events of all trails.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PlatformQuery {
    /// Only events of the tenant with this slug.
    pub(super) tenant: Option<String>,
    #[param(ignore)]
    pub(super) events: AuditQuery,
}

/// Filters of the events of one trail.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct AuditQuery {
    /// Full-text search: up to 8 whole words, case-insensitive, all of which must occur in the action, the name of the
    /// target, or the name or e-mail address of the actor (except operators).
    #[param(value_type = Option<String>, max_length = 200, example = "domain example")]
    q: Vec<String>,
    /// Only events with this action.
    #[param(value_type = Option<String>, example = "tenant.suspend")]
    action: Option<Action>,
    /// Only changes that a job carries out (`accepted`) or that were complete at once (`done`).
    #[param(value_type = Option<String>, pattern = "^(accepted|done)$", example = "done")]
    outcome: Option<Outcome>,
    /// Only events of the actor with this e-mail address.
    actor_email: Option<String>,
    /// Only events at or after this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime>,
    /// Only events before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<DateTime>,
    #[param(ignore)]
    pub(super) page: Page,
}

impl AuditQuery {
    /// The filter for `caller` in the trail of `tenant`, or in all trails.
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
        let mut errors = Vec::new();
        let query = Self {
            q: search(parameters, &mut errors),
            action,
            outcome,
            actor_email: parameters.text("actorEmail"),
            since: time("since", parameters, &mut errors),
            before: time("before", parameters, &mut errors),
            page,
        };
        if errors.is_empty() {
            Ok(query)
        } else {
            Err(ApiError::invalid(errors))
        }
    }
}

/// The words of the search text.
fn search(parameters: &mut Parameters, errors: &mut Vec<FieldError>) -> Vec<String> {
    let Some(text) = parameters.text("q") else {
        return Vec::new();
    };
    let words = words(&text);
    if text.chars().count() > MAX_TEXT_LENGTH {
        let message = format!("q must have at most {MAX_TEXT_LENGTH} characters.");
        errors.push(FieldError::parameter("q", "too_long", message));
    } else if !(1..=MAX_WORDS).contains(&words.len()) {
        let message = format!("q must have 1 to {MAX_WORDS} words of letters and digits.");
        errors.push(FieldError::parameter("q", "out_of_range", message));
    }
    words
}

fn time(name: &str, parameters: &mut Parameters, errors: &mut Vec<FieldError>) -> Option<DateTime> {
    let time = validate::time(&with_offset(parameters.text(name)?));
    time.map_err(|(code, message)| errors.push(FieldError::parameter(name, code, message)))
        .ok()
}

/// The time with the `+` of its offset: unescaped, a `+` in a query stands for a blank.
fn with_offset(time: String) -> String {
    match time.rsplit_once(' ') {
        Some((time, offset)) if offset.contains(':') && time.contains(['T', 't']) => {
            format!("{time}+{offset}")
        }
        _ => time,
    }
}
