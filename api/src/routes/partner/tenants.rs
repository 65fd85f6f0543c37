//! The partner's tenants, for its team.

use axum::{Extension, Json, response::Response};
use dezky_shared::{
    billing::Plan, id::PartnerId, store::tenants::TenantFilter, tenant::TenantStatus,
};
use http::StatusCode;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    config::Config,
    error::{ApiError, FieldError},
    etag::ETag,
    extract::{
        FromQuery, Page, PageOf, Parameters, PartnerAccess, PartnerTenant, QueryParams, Read,
        ReadWrite, Validate,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    routes::tenants::{
        self, NewTenant, NewTenantRequest, Patches, TenantPatch, TenantPatchRequest, TenantSearch,
        TenantView,
    },
    validate::{self, OwnerRequest},
    write::Write,
};

/// Filter of a tenant list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Status.
    #[param(example = "active")]
    status: Option<TenantStatus>,
    #[param(ignore)]
    search: TenantSearch,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.take("status", tenants::STATUSES)?,
            search: TenantSearch::from_query(parameters)?,
        })
    }
}

/// Lists the partner's tenants
#[utoipa::path(
    get, path = "/partner/tenants", operation_id = "listOwnPartnerTenants", tag = "partner", params(ListQuery, TenantSearch, Page),
    responses((status = 200, body = PageOf<TenantView>)),
)]
pub(super) async fn list(
    get: Get<PartnerAccess<Read>, QueryParams<ListQuery>>,
) -> ListResult<TenantView> {
    let QueryParams(query) = get.params;
    let filter = TenantFilter {
        partner_id: Some(get.access.partner.id),
        status: query.status,
        ..TenantFilter::default()
    };
    let list = format!(
        "partner/tenants?{}&{:?}",
        get.access.partner.id, query.status
    );
    tenants::search(&get.app, &get.access.caller, filter, &list, &query.search)
        .await
        .map(Json)
}

/// A new tenant. Add its domains later with `POST /tenants/{slug}/domains`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PartnerTenantCreate)]
pub(super) struct CreateRequest {
    /// Slug. It never changes and is never reused.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "acme")]
    slug: String,
    /// Display name.
    #[schema(min_length = 1, max_length = 120, example = "Acme A/S")]
    name: String,
    /// Plan: `starter`, `business` or `enterprise`. Default: the partner's default plan, else `starter`.
    #[schema(value_type = Option<Plan>)]
    plan: Option<String>,
    /// Industry.
    #[schema(min_length = 1, max_length = 120)]
    industry: Option<String>,
    /// Brand color, `#rrggbb`.
    #[schema(pattern = "^#[0-9A-Fa-f]{6}$")]
    brand_color: Option<String>,
    /// The owner.
    #[serde(default, deserialize_with = "validate::object")]
    owner: Option<OwnerRequest>,
}

/// A validated new tenant, before its partner is set.
#[derive(Debug, Clone)]
pub(super) struct NewCustomer(NewTenant);

impl Validate for NewCustomer {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, config: &Config) -> Result<Self, Vec<FieldError>> {
        let raw = NewTenantRequest {
            slug: raw.slug,
            name: raw.name,
            plan: raw.plan,
            // Domains of a new tenant count as verified, which only operators may decide.
            domains: Vec::new(),
            partner_id: None,
            industry: raw.industry,
            brand_color: raw.brand_color,
            owner: raw.owner,
        };
        NewTenant::validate(raw, config).map(Self)
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
/// Requires the access level owner or manager. The job provisions it in the upstreams.
#[utoipa::path(
    post, path = "/partner/tenants", operation_id = "createOwnPartnerTenant", tag = "partner", request_body = CreateRequest,
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn create(
    w: Write<PartnerAccess<ReadWrite>, NewCustomer>,
) -> Result<Response, ApiError> {
    let partner = &w.access.partner;
    let new = w.body.clone().of(partner.id, partner.default_plan);
    tenants::create_tenant(&w.runner(), &new).await
}

/// Returns a tenant of the partner
#[utoipa::path(get, path = "/partner/tenants/{slug}", operation_id = "getOwnPartnerTenant", tag = "partner", responses((status = 200, body = TenantView)))]
pub(super) async fn show(access: PartnerTenant<Read>) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(&access.tenant);
    let view = TenantView::shown_to(&access.caller, access.tenant);
    Ok(ApiResponse::new(StatusCode::OK, etag, &view))
}

/// Updates a tenant of the partner
///
/// Requires the access level owner or manager. Only operators change `plan`, `domains` and `partnerId`.
#[utoipa::path(
    patch, path = "/partner/tenants/{slug}", operation_id = "updateOwnPartnerTenant", tag = "partner", request_body = TenantPatchRequest,
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn patch(
    Extension(patches): Extension<Patches>,
    w: Write<PartnerTenant<ReadWrite>, TenantPatch>,
) -> Result<Response, ApiError> {
    tenants::edit_tenant(&w.app, &patches, &w.runner(), &w.access.tenant, &w.body).await
}

/// Suspends a tenant of the partner
///
/// Requires the access level owner or manager. Its users cannot sign in; no data is lost.
#[utoipa::path(
    post, path = "/partner/tenants/{slug}/suspend", operation_id = "suspendOwnPartnerTenant", tag = "partner",
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn suspend(w: Write<PartnerTenant<ReadWrite>>) -> Result<Response, ApiError> {
    tenants::suspend_tenant(&w.runner(), &w.access.tenant).await
}

/// Resumes a suspended tenant of the partner
///
/// Requires the access level owner or manager.
#[utoipa::path(
    post, path = "/partner/tenants/{slug}/resume", operation_id = "resumeOwnPartnerTenant", tag = "partner",
    responses((status = 202, body = TenantView), (status = 200, body = TenantView)),
)]
pub(super) async fn resume(w: Write<PartnerTenant<ReadWrite>>) -> Result<Response, ApiError> {
    tenants::resume_tenant(&w.runner(), &w.access.tenant).await
}
