//! Partners, for operators: who sells workspaces, on which terms, and what their customers come to.

mod change;
mod create;
mod patch;
mod view;

use axum::{Json, extract::State};
use dezky_shared::{
    audit::Action,
    partner::{Partner, PartnerStatus},
    store::tenants::TenantFilter,
};
use http::StatusCode;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{PartnerListItem, PartnerView};
pub(super) use self::{
    change::PartnerChange,
    patch::{Patch, PatchRequest},
    view::{BillingInfoView, BrandingView, ContactInfoView},
};
use super::tenants::{self, TenantView};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, FromQuery, IfMatch, Operator, Page, PageOf, Parameters, PathParam,
        QueryParams, RequestInfo, ValidatedJson,
    },
    intent::{ApiResponse, CommandRunner},
    state::{AppState, SharedState},
    validate::EnumName,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, patch::patch, terminate))
        .routes(routes!(list_tenants))
}

/// Which partners are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Only in this status: `active` or `terminated`.
    #[param(value_type = Option<String>, pattern = "^(active|terminated)$", example = "active")]
    status: Option<PartnerStatus>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters
                .take("status", "active or terminated")?
                .map(|EnumName(status)| status),
            page: Page::from_query(parameters)?,
        })
    }
}

/// The partners, oldest first
///
/// Each with the number of its customers and what they pay.
#[utoipa::path(
    get, path = "/partners", operation_id = "listPartners", tag = "partners", params(ListQuery, Page),
    responses((status = 200, body = PageOf<PartnerListItem>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<PartnerListItem>>, ApiError> {
    let list = format!("partners?{:?}", query.status);
    let after = query.page.after(&list)?;
    let partners = app
        .partners
        .list(query.status, after, query.page.fetch_limit())
        .await?;
    let ids: Vec<_> = partners.iter().map(|partner| partner.id).collect();
    let mut customers = app.tenants.customers_of(&ids).await?;
    Ok(Json(query.page.build(
        &list,
        partners,
        |partner| partner.id.to_string(),
        |partner| {
            let theirs = customers.remove(&partner.id).unwrap_or_default();
            PartnerListItem::new(partner, &theirs)
        },
    )))
}

/// A partner
#[utoipa::path(
    get, path = "/partners/{slug}", operation_id = "getPartner", tag = "partners",
    params(("slug" = String, Path)),
    responses((status = 200, body = PartnerView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(slug): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    let partner = find(&app, &slug).await?;
    let etag = ETag::from(&partner);
    ApiResponse::new(StatusCode::OK, etag, &PartnerView::from(partner))
}

/// Terminates a partner
///
/// Its staff lose their access at once. Its tenants stay as they are and still name it; attach them to another partner
/// with `PATCH /tenants/{slug}`. `PATCH /partners/{slug}` with `{"status": "active"}` brings it back, with its staff.
#[utoipa::path(
    delete, path = "/partners/{slug}", operation_id = "deletePartner", tag = "partners",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = PartnerView), (status = "default", response = Problem)),
)]
async fn terminate(
    Operator(caller): Operator,
    PathParam(slug): PathParam<String>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    let partner = find(&app, &slug).await?;
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let change = PartnerChange {
        partner: &partner,
        if_match: &if_match,
        action: Action::PartnerDelete,
        edit: &|partner| {
            partner.status = PartnerStatus::Terminated;
            Ok(())
        },
        view: PartnerView::from,
    };
    change.record(&recorder).await
}

/// The tenants that a partner looks after, oldest first
#[utoipa::path(
    get, path = "/partners/{slug}/tenants", operation_id = "listTenantsOfPartner", tag = "partners",
    params(("slug" = String, Path), Page),
    responses((status = 200, body = PageOf<TenantView>), (status = "default", response = Problem)),
)]
async fn list_tenants(
    Operator(caller): Operator,
    PathParam(slug): PathParam<String>,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<TenantView>>, ApiError> {
    let partner = find(&app, &slug).await?;
    let filter = TenantFilter {
        partner_id: Some(partner.id),
        ..TenantFilter::default()
    };
    let list = format!("partners/{}/tenants", partner.id);
    tenants::page_of(&app, &caller, filter, &list, &page)
        .await
        .map(Json)
}

async fn find(app: &AppState, slug: &str) -> Result<Partner, ApiError> {
    let partner = app.partners.find_by_slug(slug).await?;
    Ok(partner.ok_or(ProblemCode::NotFound)?)
}
