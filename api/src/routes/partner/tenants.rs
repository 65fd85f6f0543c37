//! The tenants that a partner looks after, for its staff.

use axum::{Json, extract::State, response::Response};
use dezky_shared::{
    billing::Plan, id::PartnerId, store::tenants::TenantFilter, tenant::TenantStatus,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{
        ETag, EmptyBody, FromQuery, IfMatch, Page, PageOf, Parameters, PartnerAccess,
        PartnerTenant, Prefer, QueryParams, Read, RequestInfo, Validate, ValidatedJson, Write,
    },
    intent::{ApiResponse, CommandRunner},
    routes::tenants::{
        self, NewTenant, NewTenantRequest, TenantPatch, TenantPatchRequest, TenantView,
    },
    state::{AppState, SharedState},
    validate::{self, OwnerRequest},
};

/// Which tenants are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Only in this status.
    #[param(value_type = Option<String>, pattern = "^(pending|active|suspended|terminating|terminated)$", example = "active")]
    status: Option<TenantStatus>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.take("status", tenants::STATUSES)?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// The partner's tenants, oldest first
#[utoipa::path(
    get, path = "/partner/tenants", operation_id = "listPartnerTenants", tag = "partner", params(ListQuery, Page),
    responses((status = 200, body = PageOf<TenantView>), (status = "default", response = Problem)),
)]
pub(super) async fn list(
    access: PartnerAccess<Read>,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<TenantView>>, ApiError> {
    let filter = TenantFilter {
        partner_id: Some(access.partner.id),
        status: query.status,
        ..TenantFilter::default()
    };
    let list = format!("partner/tenants?{}&{:?}", access.partner.id, query.status);
    tenants::page_of(&app, &access.caller, filter, &list, &query.page)
        .await
        .map(Json)
}

/// The tenant that is wanted. Its domains are claimed once it is there, with `POST /tenants/{slug}/domains`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewPartnerTenant)]
pub(super) struct CreateRequest {
    /// Its name in URLs: for ever, and never used again.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "acme")]
    slug: String,
    /// Its name for people.
    #[schema(min_length = 1, max_length = 120, example = "Acme A/S")]
    name: String,
    /// What it has bought: `starter`, `business` or `enterprise`. The partner's default plan unless said otherwise,
    /// and `starter` where there is none.
    #[schema(pattern = "^(starter|business|enterprise)$")]
    plan: Option<String>,
    /// What its company does.
    #[schema(min_length = 1, max_length = 120)]
    industry: Option<String>,
    /// Its colour, `#rrggbb`.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$")]
    brand_color: Option<String>,
    /// The person it is for, who becomes its owner.
    #[serde(default, deserialize_with = "validate::object")]
    owner: Option<OwnerRequest>,
}

/// A tenant to be created for a partner, which is known later.
#[derive(Debug)]
pub(super) struct NewCustomer(NewTenant);

impl Validate for NewCustomer {
    type Raw = CreateRequest;

    fn validate(wire: CreateRequest, app: &AppState) -> Result<Self, Vec<FieldError>> {
        let wire = NewTenantRequest {
            slug: wire.slug,
            name: wire.name,
            plan: wire.plan,
            // Domains in a new tenant are its own by an operator's word, which staff do not have.
            domains: Vec::new(),
            partner_id: None,
            industry: wire.industry,
            brand_color: wire.brand_color,
            owner: wire.owner,
        };
        NewTenant::validate(wire, app).map(Self)
    }
}

impl NewCustomer {
    fn of(self, partner: PartnerId, default_plan: Option<Plan>) -> NewTenant {
        let Self(mut new) = self;
        new.partner_id = Some(partner);
        new.plan = new.plan.or(default_plan);
        new
    }
}

/// Creates a tenant for the partner
///
/// For its owners and managers. The job that is answered brings it into the upstreams.
#[utoipa::path(
    post, path = "/partner/tenants", operation_id = "createPartnerTenant", tag = "partner", request_body = CreateRequest,
    params(("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    access: PartnerAccess<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    prefer: Prefer,
    ValidatedJson { body, key }: ValidatedJson<NewCustomer>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, key.as_ref());
    let new = body.of(access.partner.id, access.partner.default_plan);
    tenants::create_tenant(&recorder, &new, prefer).await
}

/// A tenant of the partner's
#[utoipa::path(
    get, path = "/partner/tenants/{slug}", operation_id = "getPartnerTenant", tag = "partner",
    params(("slug" = String, Path)),
    responses((status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn show(
    access: PartnerTenant<Read>,
    _: QueryParams<()>,
) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(&access.tenant);
    let view = TenantView::shown_to(&access.caller, access.tenant);
    ApiResponse::new(StatusCode::OK, etag, &view)
}

/// Edits a tenant of the partner's
///
/// For its owners and managers. `plan`, `domains` and `partnerId` are for operators.
#[utoipa::path(
    patch, path = "/partner/tenants/{slug}", operation_id = "updatePartnerTenant", tag = "partner", request_body = TenantPatchRequest,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    access: PartnerTenant<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<TenantPatch>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    tenants::edit_tenant(
        &recorder,
        &access.tenant,
        &if_match,
        prefer,
        &submitted.body,
    )
    .await
}

/// Freezes a tenant of the partner's
///
/// For its owners and managers. Nobody signs in any more, and nothing is lost.
#[utoipa::path(
    post, path = "/partner/tenants/{slug}/suspend", operation_id = "suspendPartnerTenant", tag = "partner",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn suspend(
    access: PartnerTenant<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    tenants::suspend_tenant(&recorder, &access.tenant, &if_match, prefer).await
}

/// Lifts what suspending froze
///
/// For the partner's owners and managers.
#[utoipa::path(
    post, path = "/partner/tenants/{slug}/resume", operation_id = "resumePartnerTenant", tag = "partner",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    responses((status = 202, body = TenantView), (status = 200, body = TenantView), (status = "default", response = Problem)),
)]
pub(super) async fn resume(
    access: PartnerTenant<Write>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    prefer: Prefer,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<Response, ApiError> {
    let recorder = CommandRunner::new(&app, &access.caller, &request, submitted.key.as_ref());
    tenants::resume_tenant(&recorder, &access.tenant, &if_match, prefer).await
}
