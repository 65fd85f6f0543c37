//! The rules of a flag, as callers write and read them.

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

/// The most tenants, and the most partners, of a rule.
const LISTED: usize = 500;

/// What a flag is for some. Every condition that is given must hold; there is at least one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = FlagRuleRequest)]
pub(super) struct RuleRequest {
    /// One of these tenants, each named by its id or slug.
    #[serde(default)]
    #[schema(max_items = 500)]
    tenants: Vec<String>,
    /// A tenant of one of these partners, each named by its id or slug.
    #[serde(default)]
    #[schema(max_items = 500)]
    partners: Vec<String>,
    /// A tenant that has bought one of these: `starter`, `business`, `enterprise`.
    #[serde(default)]
    plans: Vec<String>,
    /// One of this share of all tenants, in percent. Who is in stays in when it is raised.
    #[schema(minimum = 0, maximum = 100)]
    percentage: Option<i64>,
    /// Not before this.
    #[schema(format = DateTime)]
    from: Option<String>,
    /// Before this.
    #[schema(format = DateTime)]
    until: Option<String>,
    /// What the flag is then.
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

/// What a flag is for some. Every condition that is there must hold.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = FlagRule)]
pub(super) struct RuleView {
    /// One of these tenants, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tenants: Vec<String>,
    /// A tenant of one of these partners, by id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    partners: Vec<String>,
    /// A tenant that has bought one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    plans: Vec<Plan>,
    /// One of this share of all tenants, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    percentage: Option<u8>,
    /// Not before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<Timestamp>,
    /// Before this.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// What the flag is then.
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

/// A rule whose tenants and partners are not looked up yet.
#[derive(Debug)]
pub(super) struct NamedRule {
    tenants: Vec<String>,
    partners: Vec<String>,
    rule: Rule,
}

/// Takes the rules of a body as far as they can be taken, and notes what is wrong with them.
pub(super) fn accept(checks: &mut Validator, rules: Vec<Object<RuleRequest>>) -> Vec<NamedRule> {
    if rules.len() > MAX_RULES {
        let message = format!("A flag has at most {MAX_RULES} rules.");
        checks.note(FieldError::at("/rules", "too_many", message));
        return Vec::new();
    }
    rules
        .into_iter()
        .enumerate()
        .map(|(index, Object(rule))| accept_one(checks, &format!("/rules/{index}"), rule))
        .collect()
}

fn accept_one(checks: &mut Validator, at: &str, mut wire: RuleRequest) -> NamedRule {
    if !wire.has_condition() {
        let message = "A rule needs a condition. What holds for all others is the flag's default.";
        checks.note(FieldError::at(at, "no_condition", message));
    }
    for (name, list) in [
        ("tenants", &mut wire.tenants),
        ("partners", &mut wire.partners),
    ] {
        if list.len() > LISTED {
            let message = format!("A rule names at most {LISTED}.");
            checks.note(FieldError::at(format!("{at}/{name}"), "too_many", message));
            // They are not looked up.
            list.clear();
        }
    }
    let mut plans = Vec::new();
    for (index, plan) in wire.plans.iter().enumerate() {
        let plan = checks.check(&format!("{at}/plans/{index}"), validate::plan(plan));
        plans.extend(plan.filter(|plan| !plans.contains(plan)));
    }
    let percentage = wire
        .percentage
        .and_then(|number| checks.check(&format!("{at}/percentage"), flag::percentage(number)));
    let mut time = |name: &str, text: Option<String>| {
        text.and_then(|text| checks.check(&format!("{at}/{name}"), validate::time(&text)))
    };
    let (from, until) = (time("from", wire.from), time("until", wire.until));
    if from.zip(until).is_some_and(|(from, until)| until <= from) {
        let message = "This must be later than from.";
        checks.note(FieldError::at(
            format!("{at}/until"),
            "out_of_range",
            message,
        ));
    }
    let rule = Rule {
        plans,
        percentage,
        from,
        until,
        value: wire.value,
        ..Rule::default()
    };
    NamedRule {
        tenants: wire.tenants,
        partners: wire.partners,
        rule,
    }
}

/// The rules with the ids of those they name, or all that is wrong: what is known to be, and who does not exist. The
/// latter follows not from the request alone, so none of it is remembered with its key.
pub(super) async fn resolve(
    app: &AppState,
    named: &[NamedRule],
    wrong: &[FieldError],
) -> Result<Vec<Rule>, ApiError> {
    let tenants = tenants_named(app, named).await?;
    let partners = partners_named(app, named).await?;
    let mut errors = wrong.to_vec();
    let mut rules = Vec::new();
    for (
        index,
        NamedRule {
            tenants: of,
            partners: by,
            rule,
        },
    ) in named.iter().enumerate()
    {
        let mut rule = rule.clone();
        let at = format!("/rules/{index}/tenants");
        rule.tenants = ids(of, &tenants, &at, "unknown_tenant", &mut errors);
        let at = format!("/rules/{index}/partners");
        rule.partners = ids(by, &partners, &at, "unknown_partner", &mut errors);
        rules.push(rule);
    }
    if errors.is_empty() {
        Ok(rules)
    } else {
        Err(ApiError::invalid(errors))
    }
}

/// The ids of those with these names, each once.
fn ids<T: Copy + Ord>(
    names: &[String],
    known: &BTreeMap<String, T>,
    at: &str,
    code: &str,
    errors: &mut Vec<FieldError>,
) -> Vec<T> {
    let mut ids = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if let Some(id) = known.get(name) {
            ids.push(*id);
        } else {
            let message = "There is nobody of this name.";
            errors.push(FieldError::at(format!("{at}/{index}"), code, message));
        }
    }
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The tenants that the rules name, by id and by slug.
async fn tenants_named(
    app: &AppState,
    rules: &[NamedRule],
) -> Result<BTreeMap<String, TenantId>, ApiError> {
    let names: Vec<String> = rules.iter().flat_map(|rule| rule.tenants.clone()).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<TenantId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let mut tenants = app.tenants.list_by_ids(&ids).await?;
    tenants.extend(app.tenants.list_by_slugs(&names).await?);
    let both = |tenant: &dezky_shared::tenant::Tenant| {
        [
            (tenant.id.to_string(), tenant.id),
            (tenant.slug.clone(), tenant.id),
        ]
    };
    Ok(tenants.iter().flat_map(both).collect())
}

/// The partners that the rules name, by id and by slug.
async fn partners_named(
    app: &AppState,
    rules: &[NamedRule],
) -> Result<BTreeMap<String, PartnerId>, ApiError> {
    let names: Vec<String> = rules
        .iter()
        .flat_map(|rule| rule.partners.clone())
        .collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<PartnerId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    let partners = app.partners.list_named(&ids, &names).await?;
    let both = |partner: &dezky_shared::partner::Partner| {
        [
            (partner.id.to_string(), partner.id),
            (partner.slug.clone(), partner.id),
        ]
    };
    Ok(partners.iter().flat_map(both).collect())
}
