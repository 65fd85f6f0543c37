//! Creation of a feature flag.

use bson::DateTime;
use dezky_shared::{
    audit::Action,
    feature_flag::{Flag, Rule},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    FlagView,
    rules::{self, RuleRequest, UnresolvedRule},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Object, Operator, Validate},
    response::ApiResponse,
    validate::{Validator, flag},
    write::Write,
};

/// A new feature flag.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagCreate)]
pub(super) struct CreateRequest {
    /// Key, as code refers to it. It never changes.
    #[schema(pattern = "^[a-z][a-z0-9_]{1,63}$", example = "beta_search")]
    key: String,
    /// Purpose.
    #[schema(min_length = 1, max_length = 500)]
    description: String,
    /// Value if no rule matches. Default: off.
    #[serde(default)]
    default: bool,
    /// Rules; the first that matches decides.
    #[serde(default)]
    #[schema(value_type = Vec<RuleRequest>, max_items = 100)]
    rules: Vec<Object<RuleRequest>>,
    /// Turns the flag off, regardless of the rules.
    #[serde(default)]
    kill_switch: bool,
}

/// A new feature flag, before its rules are resolved.
#[derive(Debug)]
pub(super) struct NewFlag {
    key: String,
    description: String,
    default: bool,
    rules: Vec<UnresolvedRule>,
    kill_switch: bool,
    /// Violations in the body, reported together with unknown tenants and partners.
    violations: Vec<FieldError>,
}

impl Validate for NewFlag {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let key = validator.check("/key", flag::key(&raw.key));
        let description = validator.check("/description", flag::description(&raw.description));
        let rules = rules::accept(&mut validator, raw.rules);
        Ok(Self {
            key: key.unwrap_or_default(),
            description: description.unwrap_or_default(),
            default: raw.default,
            rules,
            kill_switch: raw.kill_switch,
            violations: validator.into_errors(),
        })
    }
}

impl NewFlag {
    fn flag(&self, rules: Vec<Rule>, now: DateTime) -> Flag {
        Flag {
            key: self.key.clone(),
            description: self.description.clone(),
            default: self.default,
            rules,
            kill_switch: self.kill_switch,
            revision: 1,
            created_at: now,
            updated_at: now,
        }
    }
}

/// Creates a feature flag
///
/// Takes effect in every process within five seconds.
#[utoipa::path(post, path = "/flags", operation_id = "createFlag", tag = "flags", request_body = CreateRequest, responses((status = 201, body = FlagView)))]
pub(super) async fn create(w: Write<Operator, NewFlag>) -> Result<ApiResponse, ApiError> {
    let rules = rules::resolve(&w.app, &w.body.rules, &w.body.violations).await?;
    let flag = w.body.flag(rules, w.app.store.now());
    let response = w.create(Action::FlagCreate, flag).await?;
    w.app.flags.refresh().await;
    Ok(response)
}
