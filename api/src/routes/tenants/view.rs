//! The representation of a tenant.

use dezky_shared::{
    billing::Plan,
    tenant::{Tenant, TenantStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    health::HealthView,
    settings::{AppearanceView, BillingInfoView, SecurityPolicyView},
};
use crate::{
    extract::{Caller, Permission as _, ReadBilling, ReadPrivate},
    timestamp::Timestamp,
    views::{ConditionView, ErrorsView, JobLink, StatusView},
};

/// A tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Tenant)]
pub struct TenantView {
    /// Id.
    id: String,
    /// Name in URLs.
    slug: String,
    /// Display name.
    name: String,
    /// Status: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    status: TenantStatus,
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Mail domains that the tenant owns.
    domains: Vec<String>,
    /// Domain of new mailboxes.
    #[serde(skip_serializing_if = "Option::is_none")]
    primary_domain: Option<String>,
    /// Partner that manages the tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    partner_id: Option<String>,
    /// Industry of the company.
    #[serde(skip_serializing_if = "Option::is_none")]
    industry: Option<String>,
    /// Brand color, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    brand_color: Option<String>,
    /// Owner named at creation.
    #[serde(skip_serializing_if = "Option::is_none")]
    owner: Option<OwnerView>,
    /// Group id at the identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentik_group_id: Option<String>,
    /// Space id on the file server.
    #[serde(skip_serializing_if = "Option::is_none")]
    ocis_space_id: Option<String>,
    /// First domain that the mail server serves.
    #[serde(skip_serializing_if = "Option::is_none")]
    stalwart_domain: Option<String>,
    /// Billing details. Visible to owners and admins, partner staff with write access, and operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    billing_info: Option<BillingInfoView>,
    /// Appearance of the workspace. E-mail templates are in `/tenants/{slug}/branding`.
    branding: AppearanceView,
    /// Sign-in policy. Visible to owners and admins, partner staff, and operators.
    #[serde(skip_serializing_if = "Option::is_none")]
    security_policy: Option<SecurityPolicyView>,
    /// Provisioning state per upstream.
    provisioning_status: StatusView,
    /// Last provisioning error per upstream.
    provisioning_errors: ErrorsView,
    /// Provisioning conditions in detail.
    conditions: Vec<ConditionView>,
    /// Time of the permanent removal.
    #[serde(skip_serializing_if = "Option::is_none")]
    purge_at: Option<Timestamp>,
    /// Incremented by every requested change.
    generation: i64,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// Health. Only in lists and the summary: it can change while the version of the tenant stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) health: Option<HealthView>,
    /// Job that carries out the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobLink>,
}

/// An owner.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = TenantOwner)]
struct OwnerView {
    /// E-mail address.
    email: String,
    /// Name.
    name: String,
}

impl TenantView {
    /// The representation for `caller`, who has read access.
    pub fn shown_to(caller: &Caller, tenant: Tenant) -> Self {
        Self {
            billing_info: ReadBilling::allows(caller, &tenant)
                .then(|| BillingInfoView::of(&tenant)),
            security_policy: ReadPrivate::allows(caller, &tenant)
                .then(|| SecurityPolicyView::of(&tenant)),
            ..Self::from(tenant)
        }
    }
}

/// The fields that every reader of the tenant sees.
impl From<Tenant> for TenantView {
    fn from(tenant: Tenant) -> Self {
        let branding = AppearanceView::of(&tenant);
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
            provisioning_status: tenant.provisioning_status.into(),
            provisioning_errors: tenant.provisioning_errors.into(),
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
