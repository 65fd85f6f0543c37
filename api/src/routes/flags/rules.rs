//! Rules of a feature flag in requests and responses.

use std::collections::BTreeMap;

use dezky_shared::{
    billing::Plan,
    feature_flag::{MAX_RULES, Rule},
    id::{PartnerId, TenantId},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    error::{ApiError, FieldError},
    extract::Object,
    state::AppState,
    timestamp::Timestamp,
    validate::{self, Validator, flag},
};

/// Maximum number of tenants, and of partners, in a rule.
const MAX_NAMES: usize = 500;

/// A rule: the flag's value for tenants that match every condition. At least one condition is required.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagRuleInput)]
pub(super) struct RuleRequest {
    /// Tenants, by id or slug.
    #[serde(default)]
    #[schema(max_items = 500)]
    tenants: Vec<String>,
    /// Partners whose tenants match, by id or slug.
    #[serde(default)]
    #[schema(max_items = 500)]
    partners: Vec<String>,
    /// Plans: `starter`, `business`, `enterprise`.
    #[serde(default)]
    plans: Vec<String>,
    /// Share of all tenants, in percent. Tenants stay included when it is raised.
    #[schema(minimum = 0, maximum = 100)]
    percentage: Option<i64>,
    /// Start of the period, inclusive.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// End of the period, exclusive.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// Value of the flag.
    value: bool,
}

impl RuleRequest {
    fn has_condition(&self) -> bool {
        let lists = [&self.tenants, &self.partners, &self.plans];
        lists.iter().any(|list| !list.is_empty())
            || self.percentage.is_some()
            || self.from.is_some()
            || self.until.is_some()
    }
}

/// A rule: the flag's value for tenants that match every condition.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FlagRule)]
pub(super) struct RuleView {
    /// Tenants, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tenants: Vec<String>,
    /// Partners whose tenants match, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partners: Vec<String>,
    /// Plans.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    plans: Vec<Plan>,
    /// Share of all tenants, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    percentage: Option<u8>,
    /// Start of the period, inclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    /// End of the period, exclusive.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Value of the flag.
    value: bool,
}

impl From<Rule> for RuleView {
    fn from(rule: Rule) -> Self {
        Self {
            tenants: rule.tenants.iter().map(ToString::to_string).collect(),
            partners: rule.partners.iter().map(ToString::to_string).collect(),
            plans: rule.plans,
            percentage: rule.percentage,
            from: rule.from.map(Timestamp::from),
            until: rule.until.map(Timestamp::from),
            value: rule.value,
        }
    }
}

/// A rule whose tenants and partners are not resolved yet.
#[derive(Debug)]
pub(super) struct UnresolvedRule {
    tenants: Vec<String>,
    partners: Vec<String>,
    rule: Rule,
}

/// Validates rules, except for the existence of their tenants and partners.
pub(super) fn accept(
    validator: &mut Validator,
    rules: Vec<Object<RuleRequest>>,
) -> Vec<UnresolvedRule> {
    if rules.len() > MAX_RULES {
        let message = format!("A flag has at most {MAX_RULES} rules.");
        validator.push(FieldError::at("/rules", "too_many", message));
        return Vec::new();
    }
    rules
        .into_iter()
        .enumerate()
        .map(|(index, Object(rule))| accept_one(validator, &format!("/rules/{index}"), rule))
        .collect()
}

fn accept_one(validator: &mut Validator, at: &str, mut raw: RuleRequest) -> UnresolvedRule {
    if !raw.has_condition() {
        let message = "A rule needs a condition. The flag's default applies to all other tenants.";
        validator.push(FieldError::at(at, "no_condition", message));
    }
    for (name, list) in [
        ("tenants", &mut raw.tenants),
        ("partners", &mut raw.partners),
    ] {
        if list.len() > MAX_NAMES {
            let message = format!("A rule has at most {MAX_NAMES} {name}.");
            validator.push(FieldError::at(format!("{at}/{name}"), "too_many", message));
            list.clear();
        }
    }
    let mut plans = Vec::new();
    for (index, plan) in raw.plans.iter().enumerate() {
        let plan = validator.check(&format!("{at}/plans/{index}"), validate::plan(plan));
        plans.extend(plan.filter(|plan| !plans.contains(plan)));
    }
    let percentage = raw
        .percentage
        .and_then(|number| validator.check(&format!("{at}/percentage"), flag::percentage(number)));
    let mut time = |name: &str, text: Option<String>| {
        text.and_then(|text| validator.check(&format!("{at}/{name}"), validate::time(&text)))
    };
    let (from, until) = (time("from", raw.from), time("until", raw.until));
    if from.zip(until).is_some_and(|(from, until)| until <= from) {
        let message = "This must be later than from.";
        let error = FieldError::at(format!("{at}/until"), "out_of_range", message);
        validator.push(error);
    }
    let rule = Rule {
        plans,
        percentage,
        from,
        until,
        value: raw.value,
        ..Rule::default()
    };
    UnresolvedRule {
        tenants: raw.tenants,
        partners: raw.partners,
        rule,
    }
}

/// Resolves tenants and partners to ids. Reports unknown ones together with the `violations` of the body. They depend on
/// stored data, so this rejection is not stored with the idempotency key.
pub(super) async fn resolve(
    app: &AppState,
    unresolved: &[UnresolvedRule],
    violations: &[FieldError],
) -> Result<Vec<Rule>, ApiError> {
    let tenants = find_tenants(app, unresolved).await?;
    let partners = find_partners(app, unresolved).await?;
    let mut errors = violations.to_vec();
    let mut rules = Vec::new();
    for (index, names) in unresolved.iter().enumerate() {
        let mut rule = names.rule.clone();
        let at = format!("/rules/{index}/tenants");
        rule.tenants = ids(&names.tenants, &tenants, &at, "unknown_tenant", &mut errors);
        let at = format!("/rules/{index}/partners");
        let code = "unknown_partner";
        rule.partners = ids(&names.partners, &partners, &at, code, &mut errors);
        rules.push(rule);
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(ApiError::invalid(errors))
    }
}

/// Ids of these names, sorted and without duplicates. Notes unknown names in `errors`.
fn ids<T: Copy + Ord>(
    names: &[String],
    by_name: &BTreeMap<String, T>,
    at: &str,
    code: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<T> {
    let mut ids = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(id) = by_name.get(name) {
            ids.push(*id);
        } else {
            let message = "No object has this id or slug.";
            errors.push(FieldError::at(format!("{at}/{index}"), code, message));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The tenants that the rules name, by id and by slug.
async fn find_tenants(
    app: &AppState,
    rules: &[UnresolvedRule],
) -> Result<BTreeMap<String, TenantId>, ApiError> {
    let names: Vec<String> = rules.iter().flat_map(|rule| rule.tenants.clone()).collect();
    let ids: Vec<TenantId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut tenants = app.db.tenants.list_by_ids(&ids).await?;
    tenants.extend(app.db.tenants.list_by_slugs(&names).await?);
    let tenants = tenants.into_iter().map(|tenant| (tenant.id, tenant.slug));
    Ok(by_id_and_slug(tenants))
}

/// The partners that the rules name, by id and by slug.
async fn find_partners(
    app: &AppState,
    rules: &[UnresolvedRule],
) -> Result<BTreeMap<String, PartnerId>, ApiError> {
    let lists = rules.iter().map(|rule| rule.partners.clone());
    let names: Vec<String> = lists.flatten().collect();
    let ids: Vec<PartnerId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let partners = app.db.partners.list_named(&ids, &names).await?;
    let partners = partners
        .into_iter()
        .map(|partner| (partner.id, partner.slug));
    Ok(by_id_and_slug(partners))
}

fn by_id_and_slug<T: Copy + ToString>(
    objects: impl Iterator<Item = (T, String)>,
) -> BTreeMap<String, T> {
    objects
        .flat_map(|(id, slug)| [(id.to_string(), id), (slug, id)])
        .collect()
}
