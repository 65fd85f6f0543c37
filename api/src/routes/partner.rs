//! The caller's own partner. Rejects callers without a partner, and those of a terminated one.

mod branding;
mod settings;
mod tenants;

use axum::Json;
use dezky_shared::{
    billing::Plan,
    partner::{Partner, PartnerStatus},
    user::PartnerRole,
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use super::partners::BrandingView;
use crate::{
    error::ApiError,
    extract::{PartnerAccess, Read},
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(settings::show, settings::patch))
        .routes(routes!(branding::show, branding::put))
        .routes(routes!(tenants::list, tenants::create))
        .routes(routes!(tenants::show, tenants::patch))
        .routes(routes!(tenants::suspend))
        .routes(routes!(tenants::resume))
}

/// The caller's partner.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OwnPartner {
    /// Id.
    id: String,
    /// Slug.
    slug: String,
    /// Display name.
    name: String,
    /// Domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Status: `active`.
    status: PartnerStatus,
    /// Access level of the caller: `owner`, `manager`, `support` or `read-only`.
    access_level: PartnerRole,
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
}

impl OwnPartner {
    fn new(partner: &Partner, access_level: PartnerRole) -> Self {
        let partner = partner.clone();
        Self {
            id: partner.id.to_string(),
            slug: partner.slug,
            name: partner.name,
            domain: partner.domain,
            status: partner.status,
            access_level,
            support_email: partner.support_email,
            support_url: partner.support_url,
            default_plan: partner.default_plan,
            branding: partner.branding.into(),
        }
    }
}

/// Returns the caller's partner and access level
#[utoipa::path(get, path = "/partner", operation_id = "getOwnPartner", tag = "partner", responses((status = 200, body = OwnPartner)))]
async fn show(access: PartnerAccess<Read>) -> Result<Json<OwnPartner>, ApiError> {
    Ok(Json(OwnPartner::new(&access.partner, access.role)))
}
