//! A partner, for its staff. Every route here is about the partner that the caller works for: whoever works for none,
//! or for one that was terminated, is refused.

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
    error::{ApiError, Problem},
    extract::{PartnerAccess, QueryParams, Read},
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

/// The partner that the caller works for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OwnPartner {
    /// Its id.
    id: String,
    /// Its name in URLs.
    slug: String,
    /// Its name for people.
    name: String,
    /// Its own domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Where it stands: `active`.
    #[schema(value_type = String)]
    status: PartnerStatus,
    /// What the caller may do there: `owner`, `manager`, `support` or `read-only`.
    #[schema(value_type = String)]
    access_level: PartnerRole,
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

/// The partner that the caller works for, and what they may do there
#[utoipa::path(
    get, path = "/partner", operation_id = "getOwnPartner", tag = "partner",
    responses((status = 200, body = OwnPartner), (status = "default", response = Problem)),
)]
async fn show(
    access: PartnerAccess<Read>,
    _: QueryParams<()>,
) -> Result<Json<OwnPartner>, ApiError> {
    Ok(Json(OwnPartner::new(&access.partner, access.role)))
}
