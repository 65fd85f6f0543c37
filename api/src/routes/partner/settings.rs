//! What a partner says about itself.

use axum::extract::State;
use dezky_shared::{audit::Action, billing::Plan, partner::Partner};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{ETag, IfMatch, PartnerAccess, QueryParams, RequestInfo, ValidatedJson, Write},
    intent::{ApiResponse, CommandRunner},
    routes::partners::{BillingInfoView, ContactInfoView, PartnerChange, Patch, PatchRequest},
    state::SharedState,
    validate::partner::in_percent,
};

/// What a partner says about itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerSettings)]
pub(super) struct SettingsView {
    /// Its name for people.
    name: String,
    /// Its own domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    domain: Option<String>,
    /// Its share of what its customers pay, in percent. Operators set it.
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

/// The partner's settings
///
/// For its owners and managers.
#[utoipa::path(
    get, path = "/partner/settings", operation_id = "getPartnerSettings", tag = "partner",
    responses((status = 200, body = SettingsView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    access: PartnerAccess<Write>,
    _: QueryParams<()>,
) -> Result<ApiResponse, ApiError> {
    let view = SettingsView::from(access.partner.as_ref().clone());
    ApiResponse::new(StatusCode::OK, ETag::from(access.partner.as_ref()), &view)
}

/// Edits the partner's settings
///
/// For its owners and managers. `status` and `marginPct` are for operators.
#[utoipa::path(
    patch, path = "/partner/settings", operation_id = "updatePartnerSettings", tag = "partner", request_body = PatchRequest,
    params(("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = SettingsView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: PartnerAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    if submitted.body.is_for_operators() {
        let detail = "Only operators change status and marginPct.";
        return Err(ApiError::new(ProblemCode::Forbidden).with_detail(detail));
    }
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    let change = PartnerChange {
        partner: &access.partner,
        if_match: &if_match,
        action: Action::PartnerUpdate,
        edit: &|partner| submitted.body.apply(partner),
        view: SettingsView::from,
    };
    change.record(&recorder).await
}
