//! Partners (resellers), their terms and their recurring revenue. For operators.

mod create;
mod patch;
mod update;
mod view;

use axum::Json;
use dezky_shared::{
    audit::Action,
    partner::{Partner, PartnerStatus},
    store::tenants::TenantFilter,
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{PartnerListItem, PartnerView};
use super::tenants::{self, TenantView};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{
        EmptyBody, FromQuery, Operator, Page, PageOf, Parameters, PathParam, PlatformReader,
        QueryParams,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    write::{Resource as _, Write},
};

pub(super) use self::{
    patch::{Patch, PatchRequest},
    update::PartnerChange,
    view::{BillingInfoView, BrandingView, ContactInfoView},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, update::update, terminate))
        .routes(routes!(list_tenants))
}

/// Filter of a partner list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Status: `active` or `terminated`.
    #[param(example = "active")]
    status: Option<PartnerStatus>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.variant("status", "active or terminated")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists partners, oldest first
///
/// Each has the number of its tenants and its monthly recurring revenue.
#[utoipa::path(
    get, path = "/partners", operation_id = "listPartners", tag = "partners", params(ListQuery, Page),
    responses((status = 200, body = PageOf<PartnerListItem>)),
)]
async fn list(get: Get<PlatformReader, QueryParams<ListQuery>>) -> ListResult<PartnerListItem> {
    let QueryParams(query) = get.params;
    let list = format!("partners?{:?}", query.status);
    let after = query.page.after(&list)?;
    let limit = query.page.fetch_limit();
    let partners = get.app.db.partners.list(query.status, after, limit).await?;
    let ids: Vec<_> = partners.iter().map(|partner| partner.id).collect();
    let revenue = get.app.db.tenants.partner_revenue(&ids).await;
    // A smaller page has fewer customers.
    let mut revenue = revenue.map_err(ApiError::from_search)?;
    let id = |partner: &Partner| partner.id.to_string();
    let view = |partner: Partner| {
        let its = revenue.remove(&partner.id).unwrap_or_default();
        PartnerListItem::new(partner, &its)
    };
    Ok(Json(query.page.build(&list, partners, id, view)))
}

/// Returns a partner
#[utoipa::path(get, path = "/partners/{slug}", operation_id = "getPartner", tag = "partners", responses((status = 200, body = PartnerView)))]
async fn show(get: Get<PlatformReader, PathParam<String>>) -> Result<ApiResponse, ApiError> {
    Ok(find(&get.app, &get.params.0).await?.response())
}

/// Terminates a partner
///
/// Its team loses access at once. Its tenants are unchanged and keep their `partnerId`; move them with
/// `PATCH /tenants/{slug}`. To restore the partner and its team, set `status` to `active` with `PATCH /partners/{slug}`.
#[utoipa::path(delete, path = "/partners/{slug}", operation_id = "deletePartner", tag = "partners", responses((status = 200, body = PartnerView)))]
async fn terminate(
    w: Write<Operator, EmptyBody, PathParam<String>>,
) -> Result<ApiResponse, ApiError> {
    let change = PartnerChange {
        partner: &find(&w.app, &w.params.0).await?,
        action: Action::PartnerDelete,
        edit: &|partner| {
            partner.status = PartnerStatus::Terminated;
            Ok(())
        },
        view: PartnerView::from,
    };
    change.execute(&w.runner()).await
}

/// Lists a partner's tenants, oldest first
#[utoipa::path(
    get, path = "/partners/{slug}/tenants", operation_id = "listPartnerTenants", tag = "partners",
    params(Page),
    responses((status = 200, body = PageOf<TenantView>)),
)]
async fn list_tenants(
    get: Get<PlatformReader, (PathParam<String>, QueryParams<Page>)>,
) -> ListResult<TenantView> {
    let (PathParam(slug), QueryParams(page)) = get.params;
    let partner = find(&get.app, &slug).await?;
    let filter = TenantFilter {
        partner_id: Some(partner.id),
        ..TenantFilter::default()
    };
    let list = format!("partners/{}/tenants", partner.id);
    tenants::page_of(&get.app, &get.access.0, filter, &list, &page)
        .await
        .map(Json)
}

async fn find(app: &AppState, slug: &str) -> Result<Partner, ApiError> {
    let partner = app.db.partners.find_by_slug(slug).await?;
    Ok(partner.ok_or(ProblemCode::NotFound)?)
}
