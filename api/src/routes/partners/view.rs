//! Representations of a partner.

use std::collections::BTreeMap;

use dezky_shared::{
    billing::{BillingInfo, Plan},
    branding::contrast_color,
    partner::{Branding, ContactInfo, Partner, PartnerRevenue, PartnerStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{timestamp::Timestamp, validate::partner::in_percent};

/// A partner.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Partner)]
pub struct PartnerView {
    /// Id.
    id: String,
    /// Slug.
    slug: String,
    /// Display name.
    name: String,
    /// Domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Status: `active` or `terminated`.
    status: PartnerStatus,
    /// Margin on customer payments, in percent.
    #[schema(minimum = 0, maximum = 100)]
    margin_pct: f64,
    /// Contact person.
    contact_info: ContactInfoView,
    /// Billing details.
    billing_info: BillingInfoView,
    /// Support e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    support_email: Option<String>,
    /// Support page.
    #[serde(skip_serializing_if = "Option::is_none")]
    support_url: Option<String>,
    /// Default plan of new tenants: `starter`, `business` or `enterprise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    default_plan: Option<Plan>,
    /// Branding of the portal.
    branding: BrandingView,
    /// Id of its group at the identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentik_group_id: Option<String>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
}

/// A partner, with its customers and revenue.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartnerListItem {
    #[serde(flatten)]
    partner: PartnerView,
    /// Number of tenants, excluding removed ones.
    customers: i64,
    /// Monthly recurring revenue by currency, in minor units. Yearly prices count as a twelfth and quarterly ones as a
    /// third; only the sum is rounded, half up.
    #[schema(example = json!({ "DKK": 129_900 }))]
    monthly_recurring_revenue: BTreeMap<String, i64>,
}

/// Contact person.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PartnerContact)]
pub(in crate::routes) struct ContactInfoView {
    /// Name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// E-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Phone number (E.164).
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
}

/// Billing details.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerBilling)]
pub(in crate::routes) struct BillingInfoView {
    /// Company name.
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    /// VAT id.
    #[serde(skip_serializing_if = "Option::is_none")]
    vat_id: Option<String>,
    /// Country (ISO 3166-1 alpha-2).
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    /// E-mail address for invoices.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// Branding of a partner's portal.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerBranding)]
pub(in crate::routes) struct BrandingView {
    /// Product name.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_name: Option<String>,
    /// Accent color, `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    accent_color: Option<String>,
    /// Text color that contrasts with the accent color: `#000000` or `#ffffff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    accent_text_color: Option<&'static str>,
    /// URL of the logo.
    #[serde(skip_serializing_if = "Option::is_none")]
    logo_url: Option<String>,
}

impl PartnerListItem {
    pub(super) fn new(partner: Partner, revenue: &PartnerRevenue) -> Self {
        Self {
            partner: partner.into(),
            customers: revenue.count,
            monthly_recurring_revenue: revenue.monthly_minor(),
        }
    }
}

impl From<Partner> for PartnerView {
    fn from(partner: Partner) -> Self {
        Self {
            id: partner.id.to_string(),
            slug: partner.slug,
            name: partner.name,
            domain: partner.domain,
            status: partner.status,
            margin_pct: in_percent(partner.margin_basis_points),
            contact_info: partner.contact_info.into(),
            billing_info: partner.billing_info.into(),
            support_email: partner.support_email,
            support_url: partner.support_url,
            default_plan: partner.default_plan,
            branding: partner.branding.into(),
            authentik_group_id: partner.authentik_group_id,
            revision: partner.revision,
            created_at: partner.created_at.into(),
            updated_at: partner.updated_at.into(),
        }
    }
}

impl From<ContactInfo> for ContactInfoView {
    fn from(contact: ContactInfo) -> Self {
        Self {
            name: contact.name,
            email: contact.email,
            phone: contact.phone,
        }
    }
}

impl From<BillingInfo> for BillingInfoView {
    fn from(billing: BillingInfo) -> Self {
        Self {
            company: billing.company,
            vat_id: billing.vat_id,
            country: billing.country,
            email: billing.email,
        }
    }
}

impl From<Branding> for BrandingView {
    fn from(branding: Branding) -> Self {
        Self {
            product_name: branding.product_name,
            accent_text_color: branding.accent_color.as_deref().map(contrast_color),
            accent_color: branding.accent_color,
            logo_url: branding.logo_url,
        }
    }
}
