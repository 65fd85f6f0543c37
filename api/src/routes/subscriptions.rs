//! Subscriptions: the commercial terms of tenants.
//!
//! A subscription has the plan that is billed; the tenant has the plan that is provisioned. They change separately.

mod create;
mod free_period;
mod update;
mod view;

use axum::Json;
use dezky_shared::{
    audit::Target,
    billing::Plan,
    id::SubscriptionId,
    store::subscriptions::SubscriptionFilter,
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use http::StatusCode;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        FromQuery, Page, PageOf, Parameters, PathParam, PlatformReader, QueryParams, SignedIn,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    routes::jobs::visible_tenants,
    state::SharedState,
};

pub(super) use self::view::SubscriptionView;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, update::update, update::cancel))
}

/// Filter of a subscription list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Tenant slug.
    tenant: Option<String>,
    /// Status: `active`, `past_due` or `cancelled`.
    status: Option<SubscriptionStatus>,
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Option<Plan>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            tenant: parameters.text("tenant"),
            status: parameters.variant("status", "active, past_due or cancelled")?,
            plan: parameters.variant("plan", "starter, business or enterprise")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the subscriptions that the caller may read, oldest first
///
/// A caller may read the subscriptions of tenants in which they have a role, and of their partner's tenants. Operators
/// may read all.
#[utoipa::path(
    get, path = "/subscriptions", operation_id = "listSubscriptions", tag = "subscriptions", params(ListQuery, Page),
    responses((status = 200, body = PageOf<SubscriptionView>)),
)]
async fn list(get: Get<SignedIn, QueryParams<ListQuery>>) -> ListResult<SubscriptionView> {
    let QueryParams(query) = get.params;
    let list = format!(
        "subscriptions?{:?}&{:?}&{:?}",
        query.tenant, query.status, query.plan
    );
    let mut filter = SubscriptionFilter {
        visible: visible_tenants(&get.app, &get.access).await?,
        status: query.status,
        plan: query.plan,
        after: query.page.after(&list)?,
        ..SubscriptionFilter::default()
    };
    if let Some(slug) = &query.tenant {
        let tenant = get.app.db.tenants.find_by_slug(slug).await?;
        let may_read = |tenant: &Tenant| get.access.may_read(tenant);
        match get.app.access.readable(tenant, may_read).await {
            Ok(tenant) => filter.tenant_id = Some(tenant.id),
            Err(error) if error.code == ProblemCode::NotFound => {
                return Ok(Json(PageOf::single(Vec::new())));
            }
            Err(error) => return Err(error),
        }
    }
    let limit = query.page.fetch_limit();
    let found = get.app.db.subscriptions.list(&filter, limit).await?;
    let ids: Vec<_> = found.iter().map(|found| found.tenant_id).collect();
    let tenants = get.app.db.tenants.list_by_ids(&ids).await?;
    let id = |subscription: &Subscription| subscription.id.to_string();
    let view = |subscription| SubscriptionView::among(subscription, &tenants);
    Ok(Json(query.page.build(&list, found, id, view)))
}

/// Returns a subscription
#[utoipa::path(get, path = "/subscriptions/{id}", operation_id = "getSubscription", tag = "subscriptions", responses((status = 200, body = SubscriptionView)))]
async fn show(
    get: Get<PlatformReader, PathParam<SubscriptionId>>,
) -> Result<ApiResponse, ApiError> {
    let found = get.app.db.subscriptions.find(get.params.0).await?;
    let subscription = found.ok_or(ProblemCode::NotFound)?;
    let tenant = get.app.db.tenants.find(subscription.tenant_id).await?;
    Ok(respond(subscription, tenant.as_ref()))
}

fn respond(subscription: Subscription, tenant: Option<&Tenant>) -> ApiResponse {
    let etag = ETag::of_revision(subscription.revision);
    let view = SubscriptionView::new(subscription, tenant);
    ApiResponse::new(StatusCode::OK, etag, &view)
}

fn target(id: SubscriptionId, tenant: Option<&Tenant>) -> Target {
    let slug = tenant.map_or("", |tenant| &tenant.slug);
    Target::new("subscription", id, slug)
}
