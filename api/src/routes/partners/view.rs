//! A partner, as callers see it.

use std::collections::BTreeMap;

use dezky_shared::{
    billing::{BillingInfo, Plan},
    branding::contrast_color,
    partner::{Branding, ContactInfo, Partner, PartnerRevenue, PartnerStatus},
};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{timestamp::Timestamp, validate::partner::in_percent};

/// A partner, as operators see it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Partner)]
pub(super) struct PartnerView {
    /// Its id.
    id: String,
    /// Its name in URLs.
    slug: String,
    /// Its name for people.
    name: String,
    /// Its own domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Where it stands: `active` or `terminated`.
    #[schema(value_type = String)]
    status: PartnerStatus,
    /// Its share of what its customers pay, in percent.
    #[schema(minimum = 0, maximum = 100)]
    margin_pct: f64,
    /// Whom to talk to there.
    contact_info: ContactInfoView,
    /// Where it is billed.
    billing_info: BillingInfoView,
    /// Where its customers find help: an address.
    #[serde(skip_serializing_if = "Option::is_none")]
    support_email: Option<String>,
    /// Where its customers find help: a page.
    #[serde(skip_serializing_if = "Option::is_none")]
    support_url: Option<String>,
    /// What a new customer gets where no plan is given: `starter`, `business` or `enterprise`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    default_plan: Option<Plan>,
    /// How its portal looks.
    branding: BrandingView,
    /// Its group at the identity provider.
    #[serde(skip_serializing_if = "Option::is_none")]
    authentik_group_id: Option<String>,
    /// + 1 with every change.
    revision: i64,
    /// When it was added.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

/// A partner, and what its customers come to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PartnerListItem {
    #[serde(flatten)]
    partner: PartnerView,
    /// How many tenants it looks after, those that were removed not counted.
    customers: i64,
    /// What they pay in a month by currency, in minor units: subscriptions in force, a year's price counted as a
    /// twelfth and a quarter's as a third. Only the sum is rounded, half a unit up.
    #[schema(example = json!({ "DKK": 129_900 }))]
    monthly_recurring_revenue: BTreeMap<String, i64>,
}

/// Whom to talk to.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = PartnerContact)]
pub(in crate::routes) struct ContactInfoView {
    /// Their name.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Their address.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
    /// Their number, E.164.
    #[serde(skip_serializing_if = "Option::is_none")]
    phone: Option<String>,
}

/// Where a partner is billed.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerBilling)]
pub(in crate::routes) struct BillingInfoView {
    /// The company.
    #[serde(skip_serializing_if = "Option::is_none")]
    company: Option<String>,
    /// Its VAT id.
    #[serde(skip_serializing_if = "Option::is_none")]
    vat_id: Option<String>,
    /// ISO 3166-1 alpha-2.
    #[serde(skip_serializing_if = "Option::is_none")]
    country: Option<String>,
    /// Where invoices go.
    #[serde(skip_serializing_if = "Option::is_none")]
    email: Option<String>,
}

/// How a partner's portal looks.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerBranding)]
pub(in crate::routes) struct BrandingView {
    /// The name that stands for ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    product_name: Option<String>,
    /// `#rrggbb`.
    #[serde(skip_serializing_if = "Option::is_none")]
    accent_color: Option<String>,
    /// The colour in which text on it can be read: `#000000` or `#ffffff`.
    #[serde(skip_serializing_if = "Option::is_none")]
    accent_text_color: Option<&'static str>,
    /// Where the logo is.
    #[serde(skip_serializing_if = "Option::is_none")]
    logo_url: Option<String>,
}

impl PartnerListItem {
    pub(super) fn new(partner: Partner, customers: &PartnerRevenue) -> Self {
        Self {
            partner: partner.into(),
            customers: customers.count,
            monthly_recurring_revenue: customers.monthly_minor(),
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
