//! Lists of tenants: filters, search, order.

use axum::Json;
use dezky_shared::{
    billing::Plan,
    id::PartnerId,
    store::tenants::{TenantFilter, TenantOrder},
    tenant::{Tenant, TenantStatus},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::{TenantView, health::health_of};
use crate::{
    error::ApiError,
    extract::{Caller, FromQuery, Page, PageOf, Parameters, QueryParams, SignedIn},
    read::{Get, ListResult},
    state::AppState,
    tenant_health::{HealthStatus, TenantHealth},
    validate,
};

/// Values of the status filter.
pub(in crate::routes) const STATUSES: &str =
    "pending, active, suspended, terminating or terminated";
/// Tenants whose health is computed at a time.
const ASSESSED_TOGETHER: i64 = 100;
/// Maximum number of tenants that are read for a page of those in one health.
const MAX_ASSESSED: i64 = 500;

/// Order of a list of tenants. A hyphen stands for descending.
#[derive(Serialize, ToSchema)]
#[expect(dead_code, reason = "the schema of the parameter")]
enum TenantSort {
    /// Oldest first.
    #[serde(rename = "createdAt")]
    CreatedAt,
    /// Newest first.
    #[serde(rename = "-createdAt")]
    CreatedAtDescending,
    /// By slug.
    #[serde(rename = "slug")]
    Slug,
    /// By slug, backwards.
    #[serde(rename = "-slug")]
    SlugDescending,
}

/// Search, order and health, which every list of tenants has.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::routes) struct TenantSearch {
    /// Only tenants with all of these words, at most 8, in the slug, the name or a domain.
    #[param(value_type = Option<String>, max_length = 200, example = "acme")]
    q: Vec<String>,
    /// Only tenants in this health. At most 500 tenants are read for a page, so that it may be short, or empty: it is the
    /// last one if `nextCursor` is null.
    health: Option<HealthStatus>,
    /// Order. Default: `createdAt`.
    #[param(value_type = Option<TenantSort>, inline)]
    sort: TenantOrder,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for TenantSearch {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            q: parameters
                .search_words("q")
                .map_err(|error| ApiError::invalid(vec![error]))?,
            health: parameters.take("health", "healthy, attention or critical")?,
            sort: parameters
                .take("sort", "createdAt, -createdAt, slug or -slug")?
                .unwrap_or_default(),
            page: Page::from_query(parameters)?,
        })
    }
}

/// Filters of the list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct ListQuery {
    /// Only tenants in this status.
    #[param(example = "active")]
    status: Option<TenantStatus>,
    /// Only tenants on this plan.
    #[param(example = "business")]
    plan: Option<Plan>,
    /// Only tenants of this partner.
    #[param(value_type = Option<String>, format = Uuid)]
    partner_id: Option<PartnerId>,
    #[param(ignore)]
    search: TenantSearch,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.take("status", STATUSES)?,
            plan: parameters
                .take::<PlanName>("plan", "starter, business or enterprise")?
                .map(|PlanName(plan)| plan),
            partner_id: parameters.take("partnerId", "an id")?,
            search: TenantSearch::from_query(parameters)?,
        })
    }
}

struct PlanName(Plan);

impl std::str::FromStr for PlanName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        validate::plan(text).map(Self).map_err(drop)
    }
}

/// Lists tenants
///
/// Returns the tenants that the caller has access to.
#[utoipa::path(
    get, path = "/tenants", operation_id = "listTenants", tag = "tenants",
    params(ListQuery, TenantSearch, Page),
    responses((status = 200, body = PageOf<TenantView>)),
)]
pub(super) async fn list(get: Get<SignedIn, QueryParams<ListQuery>>) -> ListResult<TenantView> {
    let QueryParams(query) = get.params;
    let list = format!(
        "tenants?{:?}&{:?}&{:?}",
        query.status, query.plan, query.partner_id
    );
    let mut filter = TenantFilter {
        status: query.status,
        plan: query.plan,
        partner_id: query.partner_id,
        ..TenantFilter::default()
    };
    if !get.access.reads_platform() {
        filter.visible = Some(get.access.user.tenant_ids());
        filter.visible_partner = get.access.partner.as_ref().map(|partner| partner.id);
    }
    let page = search(&get.app, &get.access, filter, &list, &query.search).await?;
    Ok(Json(page))
}

/// A page of the tenants that match `filter` and `search`, with their health. `list` identifies the list and its filters in
/// cursors.
pub(in crate::routes) async fn search(
    app: &AppState,
    caller: &Caller,
    filter: TenantFilter,
    list: &str,
    search: &TenantSearch,
) -> Result<PageOf<TenantView>, ApiError> {
    let list = format!(
        "{list}&{:?}&{:?}&{:?}",
        search.q, search.health, search.sort
    );
    let filter = TenantFilter {
        words: search.q.clone(),
        order: search.sort,
        ..filter
    };
    match search.health {
        None => page_of(app, caller, filter, &list, &search.page).await,
        Some(health) => page_in_health(app, caller, filter, &list, &search.page, health).await,
    }
}

/// A page of the tenants that match `filter`, with their health.
pub(in crate::routes) async fn page_of(
    app: &AppState,
    caller: &Caller,
    mut filter: TenantFilter,
    list: &str,
    page: &Page,
) -> Result<PageOf<TenantView>, ApiError> {
    start_after(&mut filter, list, page)?;
    let read = read(app, &filter, page.fetch_limit()).await?;
    let position = |(tenant, _): &Assessed| position(&filter, tenant);
    Ok(page.build(list, read, position, |assessed| view(caller, assessed)))
}

/// A page of the tenants that match `filter` in this health, which is computed for each that is read.
async fn page_in_health(
    app: &AppState,
    caller: &Caller,
    mut filter: TenantFilter,
    list: &str,
    page: &Page,
    status: HealthStatus,
) -> Result<PageOf<TenantView>, ApiError> {
    start_after(&mut filter, list, page)?;
    let mut items = Vec::new();
    let (mut found, mut assessed, mut has_more) = (0, 0, true);
    while has_more && found <= page.limit && assessed < MAX_ASSESSED {
        let read = read(app, &filter, ASSESSED_TOGETHER).await?;
        let number = i64::try_from(read.len()).unwrap_or(ASSESSED_TOGETHER);
        has_more = number == ASSESSED_TOGETHER;
        assessed += number;
        if let Some((last, _)) = read.last() {
            filter.after = Some(last.id).filter(|_| !filter.order.is_by_slug());
            filter.after_slug = Some(last.slug.clone()).filter(|_| filter.order.is_by_slug());
        }
        for (tenant, health) in read {
            let position = position(&filter, &tenant);
            let is_match = health.status == status;
            found += i64::from(is_match);
            let item = is_match.then(|| view(caller, (tenant, health)));
            items.push((position, item));
        }
    }
    Ok(page.build_found(list, items, has_more))
}

/// A tenant with its health.
type Assessed = (Tenant, TenantHealth);

fn view(caller: &Caller, (tenant, health): Assessed) -> TenantView {
    let mut view = TenantView::shown_to(caller, tenant);
    view.health = Some(health.into());
    view
}

/// The position of a tenant in the list, for cursors.
fn position(filter: &TenantFilter, tenant: &Tenant) -> String {
    if filter.order.is_by_slug() {
        tenant.slug.clone()
    } else {
        tenant.id.to_string()
    }
}

/// Sets the position after which the page starts.
fn start_after(filter: &mut TenantFilter, list: &str, page: &Page) -> Result<(), ApiError> {
    if filter.order.is_by_slug() {
        filter.after_slug = page.after(list)?;
    } else {
        filter.after = page.after(list)?;
    }
    Ok(())
}

/// At most `limit` tenants that match `filter`, with their health.
async fn read(
    app: &AppState,
    filter: &TenantFilter,
    limit: i64,
) -> Result<Vec<Assessed>, ApiError> {
    let tenants = app.db.tenants.list(filter, limit).await;
    let tenants = tenants.map_err(ApiError::from_search)?;
    let mut health = health_of(app, &tenants).await?;
    let assessed = tenants.into_iter().filter_map(|tenant| {
        let health = health.remove(&tenant.id)?;
        Some((tenant, health))
    });
    Ok(assessed.collect())
}
