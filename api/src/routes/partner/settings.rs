//! Settings of a partner.

use dezky_shared::{audit::Action, billing::Plan, partner::Partner};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{PartnerAccess, ReadWrite},
    response::ApiResponse,
    routes::partners::{BillingInfoView, ContactInfoView, PartnerChange, Patch, PatchRequest},
    validate::partner::in_percent,
    write::Write,
};

/// Settings of a partner.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerSettings)]
pub(super) struct SettingsView {
    /// Display name.
    name: String,
    /// Domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Margin on customer payments, in percent. Set by operators.
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
}

impl From<Partner> for SettingsView {
    fn from(partner: Partner) -> Self {
        Self {
            name: partner.name,
            domain: partner.domain,
            margin_pct: in_percent(partner.margin_basis_points),
            contact_info: partner.contact_info.into(),
            billing_info: partner.billing_info.into(),
            support_email: partner.support_email,
            support_url: partner.support_url,
            default_plan: partner.default_plan,
        }
    }
}

/// Returns the partner's settings
///
/// Requires the access level owner or manager.
#[utoipa::path(get, path = "/partner/settings", operation_id = "getOwnPartnerSettings", tag = "partner", responses((status = 200, body = SettingsView)))]
pub(super) async fn show(access: PartnerAccess<ReadWrite>) -> Result<ApiResponse, ApiError> {
    let view = SettingsView::from(access.partner.as_ref().clone());
    let etag = ETag::from(access.partner.as_ref());
    Ok(ApiResponse::new(StatusCode::OK, etag, &view))
}

/// Updates the partner's settings
///
/// Requires the access level owner or manager. Only operators change `status` and `marginPct`.
#[utoipa::path(
    patch, path = "/partner/settings", operation_id = "updateOwnPartnerSettings", tag = "partner", request_body = PatchRequest,
    responses((status = 200, body = SettingsView)),
)]
pub(super) async fn patch(
    w: Write<PartnerAccess<ReadWrite>, Patch>,
) -> Result<ApiResponse, ApiError> {
    if w.body.is_for_operators() {
        let detail = "Only operators change status and marginPct.";
        return Err(ApiError::new(ProblemCode::Forbidden).with_detail(detail));
    }
    let change = PartnerChange {
        partner: &w.access.partner,
        action: Action::PartnerUpdate,
        edit: &|partner| w.body.apply(partner),
        view: SettingsView::from,
    };
    change.execute(&w.runner()).await
}
