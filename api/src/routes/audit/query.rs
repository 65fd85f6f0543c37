//! Filters of audit events.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Outcome},
    store::audit::AuditFilter,
    tenant::Tenant,
};
use utoipa::IntoParams;

use crate::{
    error::{ApiError, FieldError},
    extract::{Caller, FromQuery, Page, Parameters},
};

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
    #[param(example = "tenant.suspend")]
    action: Option<Action>,
    /// Only changes that a job carries out (`accepted`), that are complete (`done`), or whose job failed (`failed`) or was
    /// cancelled (`cancelled`).
    #[param(example = "done")]
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
            hides_operators: !caller.reads_platform(),
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
        let outcome = parameters.take("outcome", "accepted, done, failed or cancelled")?;
        let page = Page::from_query(parameters)?;
        let mut errors = Vec::new();
        let search = parameters.search_words("q").unwrap_or_else(|error| {
            errors.push(error);
            Vec::new()
        });
        let query = Self {
            q: search,
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

fn time(name: &str, parameters: &mut Parameters, errors: &mut Vec<FieldError>) -> Option<DateTime> {
    let time = parameters.time(name);
    time.map_err(|error| errors.push(error)).ok().flatten()
}
