//! Changes of a tenant's fields.

use std::collections::BTreeSet;

use bson::DateTime;
use dezky_shared::{
    audit::Action, billing::Plan, id::PartnerId, queue::args::ProvisionTenant, store::jobs::NewJob,
    tenant::Tenant, upstream::Upstream,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::actions::Decision;
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::Validate,
    validate::{self, FieldPatch, Validator, double_option},
    write::ensure_not_terminating,
};

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = TenantPatch)]
pub(in crate::routes) struct PatchRequest {
    /// Display name.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Option<String>,
    /// Plan: `starter`, `business` or `enterprise`. Operators only.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Plan)]
    plan: Option<String>,
    /// All mail domains. Operators only.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, max_items = 100)]
    domains: Option<Vec<String>>,
    /// Industry of the company.
    #[serde(default)]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 120)]
    industry: FieldPatch<String>,
    /// Brand color, `#rrggbb`.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^#[0-9A-Fa-f]{6}$")]
    brand_color: FieldPatch<String>,
    /// Partner that manages the tenant. Operators only.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = Uuid)]
    partner_id: FieldPatch<String>,
}

/// A validated patch.
#[derive(Debug, Clone)]
pub(in crate::routes) struct Patch {
    name: Option<String>,
    plan: Option<Plan>,
    domains: Option<Vec<String>>,
    industry: FieldPatch<String>,
    brand_color: FieldPatch<String>,
    partner_id: FieldPatch<PartnerId>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, config: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self {
            name: raw
                .name
                .and_then(|name| validator.check("/name", validate::name(&name))),
            plan: raw
                .plan
                .and_then(|plan| validator.check("/plan", validate::plan(&plan))),
            domains: raw.domains.and_then(|domains| {
                validate::domains(&mut validator, &config.domain_names, &domains)
            }),
            industry: raw
                .industry
                .check(&mut validator, "/industry", |text| validate::name(&text)),
            brand_color: raw
                .brand_color
                .check(&mut validator, "/brandColor", |text| validate::color(&text)),
            partner_id: raw
                .partner_id
                .check(&mut validator, "/partnerId", |id| validate::id(&id)),
        };
        validator.finish(Some(patch))
    }
}

impl Patch {
    /// Whether the patch depends on no document other than the tenant.
    pub(super) fn is_independent(&self) -> bool {
        self.domains.is_none() && self.partner_id.is_keep()
    }

    /// Whether only operators may make the change.
    pub(super) fn needs_operator(&self) -> bool {
        self.plan.is_some() || self.domains.is_some() || !self.partner_id.is_keep()
    }

    /// Edits `tenant` and returns the affected upstreams. `None` if nothing changes.
    fn apply(&self, tenant: &mut Tenant) -> Option<Vec<Upstream>> {
        let before = tenant.clone();
        if let Some(name) = &self.name {
            tenant.name.clone_from(name);
        }
        if let Some(plan) = self.plan {
            tenant.plan = plan;
        }
        if let Some(domains) = &self.domains {
            tenant.domains.clone_from(domains);
            if tenant.domains != before.domains {
                let former = before.domains.iter().chain(&before.former_domains);
                let removed = former.filter(|domain| !domains.contains(domain));
                let removed: BTreeSet<&String> = removed.collect();
                tenant.former_domains = removed.into_iter().cloned().collect();
            }
        }
        self.industry.apply(&mut tenant.industry);
        self.brand_color.apply(&mut tenant.brand_color);
        self.partner_id.apply(&mut tenant.partner_id);
        if *tenant == before {
            return None;
        }
        let mut affected = Vec::new();
        if tenant.domains != before.domains {
            affected.push(Upstream::Stalwart);
        }
        if tenant.name != before.name || tenant.plan != before.plan {
            affected.push(Upstream::Ocis);
        }
        Some(affected)
    }

    /// Edits `tenant`, and decides what follows. `None` if nothing changes.
    pub(super) fn decide(
        &self,
        tenant: &mut Tenant,
        by: &str,
        now: DateTime,
    ) -> Result<Option<Decision>, ApiError> {
        ensure_not_terminating(tenant)?;
        let Some(affected) = self.apply(tenant) else {
            return Ok(None);
        };
        tenant.generation += 1;
        tenant.set_pending(&affected, now);
        let mut jobs = Vec::new();
        if !affected.is_empty() {
            let args = ProvisionTenant {
                tenant_id: tenant.id,
            };
            jobs.push(NewJob::new(&args, by, now)?);
        }
        Ok(Some(Decision {
            action: Action::TenantUpdate,
            jobs,
        }))
    }
}
