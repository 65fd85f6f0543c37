//! Branding of a partner's portal.

use dezky_shared::{
    audit::Action,
    partner::{Branding, Partner},
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    config::Config,
    error::{ApiError, FieldError},
    etag::ETag,
    extract::{PartnerAccess, Read, ReadWrite, Validate},
    response::ApiResponse,
    routes::partners::{BrandingView, PartnerChange},
    validate::{self, Validator, url::https_url},
    write::Write,
};

/// Branding. Missing and null fields use the platform's default.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerBrandingUpdate)]
pub(super) struct BrandingRequest {
    /// Product name.
    #[schema(min_length = 1, max_length = 120, example = "Nordic Workspace")]
    product_name: Option<String>,
    /// Accent color, `#rrggbb`.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$", example = "#0a7cff")]
    accent_color: Option<String>,
    /// URL of the logo (https).
    #[schema(format = "uri", max_length = 2048)]
    logo_url: Option<String>,
}

/// Validated branding.
#[derive(Debug)]
pub(super) struct Appearance(Branding);

impl Validate for Appearance {
    type Raw = BrandingRequest;

    fn validate(raw: BrandingRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let branding = Branding {
            product_name: raw
                .product_name
                .and_then(|text| validator.check("/productName", validate::name(&text))),
            accent_color: raw
                .accent_color
                .and_then(|text| validator.check("/accentColor", validate::color(&text))),
            logo_url: raw
                .logo_url
                .and_then(|text| validator.check("/logoUrl", https_url(&text))),
        };
        validator.finish(Some(Self(branding)))
    }
}

fn view(partner: Partner) -> BrandingView {
    partner.branding.into()
}

/// Returns the branding of the partner's portal
#[utoipa::path(get, path = "/partner/branding", operation_id = "getOwnPartnerBranding", tag = "partner", responses((status = 200, body = BrandingView)))]
pub(super) async fn show(access: PartnerAccess<Read>) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(access.partner.as_ref());
    let view = view(access.partner.as_ref().clone());
    Ok(ApiResponse::new(StatusCode::OK, etag, &view))
}

/// Replaces the branding of the partner's portal
///
/// Requires the access level owner or manager.
#[utoipa::path(
    put, path = "/partner/branding", operation_id = "replaceOwnPartnerBranding", tag = "partner", request_body = BrandingRequest,
    responses((status = 200, body = BrandingView)),
)]
pub(super) async fn put(
    w: Write<PartnerAccess<ReadWrite>, Appearance>,
) -> Result<ApiResponse, ApiError> {
    let Appearance(branding) = &w.body;
    let change = PartnerChange {
        partner: &w.access.partner,
        action: Action::PartnerUpdate,
        edit: &|partner| {
            partner.branding.clone_from(branding);
            Ok(())
        },
        view,
    };
    change.execute(&w.runner()).await
}
