//! Update of a feature flag.

use dezky_shared::{audit::Action, feature_flag::Flag};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    FlagView,
    rules::{self, RuleRequest, UnresolvedRule},
};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{Object, Operator, PathParam, Validate},
    response::ApiResponse,
    validate::{Validator, double_option, flag},
    write::Write,
};

/// Fields to change. Missing fields stay.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagPatch)]
pub(super) struct PatchRequest {
    /// Purpose.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 500)]
    description: Option<String>,
    /// Value if no rule matches.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    default: Option<bool>,
    /// All rules; replaces the stored ones.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<RuleRequest>, max_items = 100)]
    rules: Option<Vec<Object<RuleRequest>>>,
    /// Turns the flag off, regardless of the rules.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    kill_switch: Option<bool>,
}

/// Fields to change, before the rules are resolved.
#[derive(Debug)]
pub(super) struct Patch {
    description: Option<String>,
    default: Option<bool>,
    rules: Option<Vec<UnresolvedRule>>,
    kill_switch: Option<bool>,
    /// Violations in the body, reported together with unknown tenants and partners.
    violations: Vec<FieldError>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        Ok(Self {
            description: raw
                .description
                .and_then(|text| validator.check("/description", flag::description(&text))),
            default: raw.default,
            rules: raw.rules.map(|rules| rules::accept(&mut validator, rules)),
            kill_switch: raw.kill_switch,
            violations: validator.into_errors(),
        })
    }
}

/// Updates a feature flag
///
/// Takes effect in every process within five seconds.
#[utoipa::path(patch, path = "/flags/{key}", operation_id = "updateFlag", tag = "flags", request_body = PatchRequest, responses((status = 200, body = FlagView)))]
pub(super) async fn update(
    w: Write<Operator, Patch, PathParam<String>>,
) -> Result<ApiResponse, ApiError> {
    let (PathParam(key), patch) = (&w.params, &w.body);
    let unresolved = patch.rules.as_deref().unwrap_or_default();
    let rules = rules::resolve(&w.app, unresolved, &patch.violations).await?;
    let edit = |flag: &mut Flag| {
        if let Some(description) = &patch.description {
            flag.description.clone_from(description);
        }
        if patch.rules.is_some() {
            flag.rules.clone_from(&rules);
        }
        flag.default = patch.default.unwrap_or(flag.default);
        flag.kill_switch = patch.kill_switch.unwrap_or(flag.kill_switch);
        Ok(())
    };
    let response = w.update(Action::FlagUpdate, key.clone(), edit).await?;
    w.app.flags.refresh().await;
    Ok(response)
}
