//! A tenant, as callers see it.

use crate::tenant_health::TenantHealth;
use dezky_shared::{
    billing::Plan,
    queue::error_code::ErrorClass,
    tenant::{Condition, ConditionStatus, PerUpstream, ProvisioningState, Tenant, TenantStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    JobLink,
    health::HealthView,
    settings::{BillingInfoView, LookView, SecurityPolicyView},
};
use crate::{
    extract::{Caller, Permission as _, ReadPrivate, Write},
    timestamp::Timestamp,
};

/// A tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TenantView {
    /// Its id.
    id: String,
    /// Its name in URLs.
    slug: String,
    /// Its name for people.
    name: String,
    /// Where it stands: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    #[schema(value_type = String)]
    status: TenantStatus,
    /// What it has bought: `starter`, `business` or `enterprise`.
    #[schema(value_type = String)]
    plan: Plan,
    /// Its mail domains: those that are its own.
    domains: Vec<String>,
    /// The one of them in which new mailboxes are made.
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_domain: Option<String>,
    /// The partner that looks after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_id: Option<String>,
    /// What its company does.
    #[serde(skip_serializing_if = "Option::is_none")]
    industry: Option<String>,
    /// Its colour, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    brand_color: Option<String>,
    /// The person it was made for.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerView>,
    /// Its group at the identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentik_group_id: Option<String>,
    /// Its space on the files server.
    #[serde(skip_serializing_if = "Option::is_none")]
    ocis_space_id: Option<String>,
    /// Its first domain that the mail server serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalwart_domain: Option<String>,
    /// Where it is billed. For its owners and admins, partner staff who may write, operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_info: Option<BillingInfoView>,
    /// How its workspace looks; the texts of its mail are in `/tenants/{slug}/branding`.
    branding: LookView,
    /// How it wants its people to sign in. For its owners and admins, partner staff, operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    security_policy: Option<SecurityPolicyView>,
    /// How it stands in each upstream.
    provisioning_status: StatusView,
    /// What went wrong in each upstream.
    provisioning_errors: ErrorsView,
    /// The same, told in full.
    conditions: Vec<ConditionView>,
    /// When it is removed for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_at: Option<Timestamp>,
    /// + 1 with every change that somebody asked for.
    generation: i64,
    /// + 1 with every change.
    revision: i64,
    /// When it was created.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
    /// How well it is. In lists and in its summary only: it may change while the tenant's version stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<HealthView>,
    /// The job that carries out what was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    job: Option<JobLink>,
}

/// Somebody's address and name.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct OwnerView {
    /// The address.
    email: String,
    /// The name.
    name: String,
}

/// How a tenant stands in each upstream: `pending`, `ok`, `skipped` or `error`.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct StatusView {
    /// Identity.
    #[schema(value_type = String)]
    authentik: ProvisioningState,
    /// Mail.
    #[schema(value_type = String)]
    stalwart: ProvisioningState,
    /// Files.
    #[schema(value_type = String)]
    ocis: ProvisioningState,
}

/// What went wrong in each upstream.
#[derive(Debug, Clone, Serialize, ToSchema)]
struct ErrorsView {
    /// Identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentik: Option<String>,
    /// Mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalwart: Option<String>,
    /// Files.
    #[serde(skip_serializing_if = "Option::is_none")]
    ocis: Option<String>,
}

/// What is known about one aspect of a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionView {
    /// Which aspect.
    #[serde(rename = "type")]
    #[schema(example = "AuthentikReady")]
    kind: String,
    /// Whether it holds: `true`, `false` or `unknown`.
    #[schema(value_type = String)]
    status: ConditionStatus,
    /// A stable name for why.
    reason: String,
    /// The same, for a person.
    message: String,
    /// The generation it speaks of.
    observed_generation: i64,
    /// When `status` last changed.
    last_transition_at: Timestamp,
    /// When it is tried again.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_attempt_at: Option<Timestamp>,
    /// Who has to act.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    class: Option<ErrorClass>,
}

impl TenantView {
    /// The tenant with all that `caller`, who may read it, may see of it.
    pub fn shown_to(caller: &Caller, tenant: Tenant) -> Self {
        Self {
            billing_info: Write::allows(caller, &tenant).then(|| BillingInfoView::of(&tenant)),
            security_policy: ReadPrivate::allows(caller, &tenant)
                .then(|| SecurityPolicyView::of(&tenant)),
            ..Self::from(tenant)
        }
    }

    /// The same, with how well it is.
    #[must_use]
    pub fn with_health(mut self, health: Option<TenantHealth>) -> Self {
        self.health = health.map(HealthView::from);
        self
    }

    /// The same, with the job that carries out what was asked for.
    #[must_use]
    pub fn with_job(mut self, job: JobLink) -> Self {
        self.job = Some(job);
        self
    }
}

/// What everybody who may read the tenant may see of it.
impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let branding = LookView::of(&tenant);
        let PerUpstream {
            authentik,
            stalwart,
            ocis,
        } = tenant.provisioning_errors;
        Self {
            id: tenant.id.to_string(),
            slug: tenant.slug,
            name: tenant.name,
            status: tenant.status,
            plan: tenant.plan,
            domains: tenant.domains,
            primary_domain: tenant.primary_domain,
            partner_id: tenant.partner_id.map(|id| id.to_string()),
            industry: tenant.industry,
            brand_color: tenant.brand_color,
            owner: tenant.owner.map(|owner| OwnerView {
                email: owner.email,
                name: owner.name,
            }),
            authentik_group_id: tenant.authentik_group_id,
            ocis_space_id: tenant.ocis_space_id,
            stalwart_domain: tenant.stalwart_domain,
            billing_info: None,
            branding,
            security_policy: None,
            provisioning_status: StatusView {
                authentik: tenant.provisioning_status.authentik,
                stalwart: tenant.provisioning_status.stalwart,
                ocis: tenant.provisioning_status.ocis,
            },
            provisioning_errors: ErrorsView {
                authentik,
                stalwart,
                ocis,
            },
            conditions: tenant
                .conditions
                .into_iter()
                .map(ConditionView::from)
                .collect(),
            purge_at: tenant.purge_at.map(Timestamp::from),
            generation: tenant.generation,
            revision: tenant.revision,
            created_at: tenant.created_at.into(),
            updated_at: tenant.updated_at.into(),
            health: None,
            job: None,
        }
    }
}

impl From<Condition> for ConditionView {
    fn from(condition: Condition) -> Self {
        Self {
            kind: condition.kind,
            status: condition.status,
            reason: condition.reason,
            message: condition.message,
            observed_generation: condition.observed_generation,
            last_transition_at: condition.last_transition_at.into(),
            next_attempt_at: condition.next_attempt_at.map(Timestamp::from),
            class: condition.class,
        }
    }
}
