//! Editing a tenant.

use axum::{extract::State, response::Response};
use bson::DateTime;
use dezky_shared::{
    audit::Action, billing::Plan, id::PartnerId, queue::args::ProvisionTenant, tenant::Tenant,
    upstream::Upstream,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    TenantView,
    actions::{self, Decision},
    change,
};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        IfMatch, Prefer, QueryParams, RequestInfo, TenantAccess, Validate, ValidatedJson, Write,
    },
    intent::CommandRunner,
    state::{AppState, SharedState},
    validate::{self, Validator, double_option},
};

/// The fields that are to change. What is missing stays; null removes.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantPatch)]
pub(in crate::routes) struct PatchRequest {
    /// Its name for people.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Option<String>,
    /// What it has bought: `starter`, `business` or `enterprise`. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Option<String>,
    /// All of its mail domains. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 100)]
    domains: Option<Vec<String>>,
    /// What its company does.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    industry: Option<Option<String>>,
    /// Its colour, `#rrggbb`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, pattern = "^#[0-9A-Fa-f]{6}$")]
    brand_color: Option<Option<String>>,
    /// The partner that looks after it. For operators.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, format = Uuid)]
    partner_id: Option<Option<String>>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(in crate::routes) struct Patch {
    name: Option<String>,
    plan: Option<Plan>,
    domains: Option<Vec<String>>,
    industry: Option<Option<String>>,
    brand_color: Option<Option<String>>,
    partner_id: Option<Option<PartnerId>>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let patch = Self {
            name: wire
                .name
                .and_then(|name| checks.check("/name", validate::name(&name))),
            plan: wire
                .plan
                .and_then(|plan| checks.check("/plan", validate::plan(&plan))),
            domains: wire
                .domains
                .and_then(|domains| validate::domains(&mut checks, &app.domain_names, &domains)),
            industry: wire.industry.map(|industry| {
                industry.and_then(|text| checks.check("/industry", validate::name(&text)))
            }),
            brand_color: wire.brand_color.map(|color| {
                color.and_then(|text| checks.check("/brandColor", validate::color(&text)))
            }),
            partner_id: wire
                .partner_id
                .map(|id| id.and_then(|id| checks.check("/partnerId", validate::id(&id)))),
        };
        checks.finish(Some(patch))
    }
}

impl Patch {
    fn is_for_operators(&self) -> bool {
        self.plan.is_some() || self.domains.is_some() || self.partner_id.is_some()
    }

    /// Edits `tenant`, and says which upstreams that concerns. `None` if it changes nothing.
    fn apply(&self, tenant: &mut Tenant) -> Option<Vec<Upstream>> {
        let before = tenant.clone();
        if let Some(name) = &self.name {
            tenant.name.clone_from(name);
        }
        if let Some(plan) = self.plan {
            tenant.plan = plan;
        }
        if let Some(domains) = &self.domains {
            let given_up = tenant.domains.iter().chain(&tenant.former_domains);
            let mut former: Vec<String> = given_up
                .filter(|domain| !domains.contains(domain))
                .cloned()
                .collect();
            former.sort();
            former.dedup();
            tenant.domains.clone_from(domains);
            if tenant.domains != before.domains {
                tenant.former_domains = former;
            }
        }
        if let Some(industry) = &self.industry {
            tenant.industry.clone_from(industry);
        }
        if let Some(brand_color) = &self.brand_color {
            tenant.brand_color.clone_from(brand_color);
        }
        if let Some(partner_id) = self.partner_id {
            tenant.partner_id = partner_id;
        }
        if *tenant == before {
            return None;
        }
        let mut concerned = Vec::new();
        if tenant.domains != before.domains {
            concerned.push(Upstream::Stalwart);
        }
        if tenant.name != before.name || tenant.plan != before.plan {
            concerned.push(Upstream::Ocis);
        }
        Some(concerned)
    }

    fn decide(&self, tenant: &mut Tenant, by: &str, now: DateTime) -> Result<Decision, ApiError> {
        actions::ensure_not_terminating(tenant)?;
        let Some(concerned) = self.apply(tenant) else {
            return Ok(Decision::NOTHING);
        };
        tenant.generation += 1;
        tenant.set_pending(&concerned, now);
        let mut jobs = Vec::new();
        if !concerned.is_empty() {
            let args = ProvisionTenant {
                tenant_id: tenant.id,
            };
            jobs.push(actions::new_job(&args, by, now)?);
        }
        Ok(Decision::changed(Action::TenantUpdate, jobs))
    }
}

/// Edits a tenant
///
/// 202 if that concerns an upstream, else 200.
#[utoipa::path(
    patch, path = "/tenants/{slug}", operation_id = "updateTenant", tag = "tenants", request_body = PatchRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: TenantAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<Patch>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    edit_tenant(
        &recorder,
        &access.tenant,
        &if_match,
        prefer,
        &submitted.body,
    )
    .await
}

/// Edits a tenant, and waits for the outcome if the caller prefers.
pub(in crate::routes) async fn edit_tenant(
    recorder: &CommandRunner<'_>,
    tenant: &Tenant,
    if_match: &IfMatch,
    prefer: Prefer,
    patch: &Patch,
) -> Result<Response, ApiError> {
    if patch.is_for_operators() && !recorder.caller.is_operator() {
        let detail = "Only operators change plan, domains and partnerId.";
        return Err(ApiError::new(ProblemCode::Forbidden).with_detail(detail));
    }
    let by = recorder.actor_id();
    change(recorder, tenant, if_match, prefer, &|tenant, now| {
        patch.decide(tenant, &by, now)
    })
    .await
}
