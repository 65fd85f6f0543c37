//! How a partner's portal looks.

use axum::extract::State;
use dezky_shared::{
    audit::Action,
    partner::{Branding, Partner},
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{
        ETag, IfMatch, PartnerAccess, QueryParams, Read, RequestInfo, Validate, ValidatedJson,
        Write,
    },
    intent::{ApiResponse, CommandRunner},
    routes::partners::{BrandingView, PartnerChange},
    state::{AppState, SharedState},
    validate::{self, Validator, url::https_url},
};

/// How a portal is to look. What is missing or null is as ours.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewPartnerBranding)]
pub(super) struct BrandingRequest {
    /// The name that stands for ours.
    #[schema(min_length = 1, max_length = 120, example = "Nordic Workspace")]
    product_name: Option<String>,
    /// `#rrggbb`.
    #[schema(pattern = "^#[0-9a-fA-F]{6}$", example = "#0a7cff")]
    accent_color: Option<String>,
    /// Where the logo is: https only.
    #[schema(format = "uri", max_length = 2048)]
    logo_url: Option<String>,
}

/// How a portal is to look.
#[derive(Debug)]
pub(super) struct Look(Branding);

impl Validate for Look {
    type Raw = BrandingRequest;

    fn validate(wire: BrandingRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let look = Branding {
            product_name: wire
                .product_name
                .and_then(|text| checks.check("/productName", validate::name(&text))),
            accent_color: wire
                .accent_color
                .and_then(|text| checks.check("/accentColor", validate::color(&text))),
            logo_url: wire
                .logo_url
                .and_then(|text| checks.check("/logoUrl", https_url(&text))),
        };
        checks.finish(Some(Self(look)))
    }
}

fn view(partner: Partner) -> BrandingView {
    partner.branding.into()
}

/// How the partner's portal looks
#[utoipa::path(
    get, path = "/partner/branding", operation_id = "getPartnerBranding", tag = "partner",
    responses((status = 200, body = BrandingView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    access: PartnerAccess<Read>,
    _: QueryParams<()>,
) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(access.partner.as_ref());
    ApiResponse::new(StatusCode::OK, etag, &view(access.partner.as_ref().clone()))
}

/// Says how the partner's portal looks
///
/// For its owners and managers. Replaces what was said before.
#[utoipa::path(
    put, path = "/partner/branding", operation_id = "replacePartnerBranding", tag = "partner", request_body = BrandingRequest,
    params(("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = BrandingView), (status = "default", response = Problem)),
)]
pub(super) async fn put(
    access: PartnerAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Look>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let Look(look) = &submitted.body;
    let change = PartnerChange {
        partner: &access.partner,
        if_match: &if_match,
        action: Action::PartnerUpdate,
        edit: &|partner| {
            partner.branding.clone_from(look);
            Ok(())
        },
        view,
    };
    change.record(&recorder).await
}
