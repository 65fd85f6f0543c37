//! Subscriptions: what tenants have bought, and for how much.
//!
//! What is sold and what is provisioned are told apart: a subscription's plan is what is paid for, the tenant's own
//! plan is what it has. Whoever sells another plan changes both.

mod change;
mod create;
mod view;

use axum::{Json, extract::State};
use bson::Document;
use dezky_shared::{
    audit::Target,
    billing::Plan,
    id::{SubscriptionId, TenantId},
    store::{StoreError, subscriptions::SubscriptionFilter, to_document},
    subscription::{Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use http::StatusCode;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::view::SubscriptionView;
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        Caller, ETag, FromQuery, Operator, Page, PageOf, Parameters, PathParam, QueryParams,
        SignedIn,
    },
    intent::ApiResponse,
    state::{AppState, SharedState},
    validate,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, change::patch, change::cancel))
}

/// Which subscriptions are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Only those of the tenant with this slug.
    tenant: Option<String>,
    /// Only in this status: `active`, `past_due` or `cancelled`.
    #[param(value_type = Option<String>, pattern = "^(active|past_due|cancelled)$")]
    status: Option<SubscriptionStatus>,
    /// Only of this plan: `starter`, `business` or `enterprise`.
    #[param(value_type = Option<String>, pattern = "^(starter|business|enterprise)$")]
    plan: Option<Plan>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let statuses = "active, past_due or cancelled";
        let plans = "starter, business or enterprise";
        Ok(Self {
            tenant: parameters.text("tenant"),
            status: parameters
                .take::<validate::EnumName<_>>("status", statuses)?
                .map(|validate::EnumName(status)| status),
            plan: parameters
                .take::<validate::EnumName<_>>("plan", plans)?
                .map(|validate::EnumName(plan)| plan),
            page: Page::from_query(parameters)?,
        })
    }
}

/// The subscriptions the caller may see, oldest first
///
/// Those of the tenants they have a role in, and of those that their partner looks after; all, for operators.
#[utoipa::path(
    get, path = "/subscriptions", operation_id = "listSubscriptions", tag = "subscriptions", params(ListQuery, Page),
    responses((status = 200, body = PageOf<SubscriptionView>), (status = "default", response = Problem)),
)]
async fn list(
    SignedIn(caller): SignedIn,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<SubscriptionView>>, ApiError> {
    let list = format!(
        "subscriptions?{:?}&{:?}&{:?}",
        query.tenant, query.status, query.plan
    );
    let mut filter = SubscriptionFilter {
        visible: visible(&app, &caller).await?,
        status: query.status,
        plan: query.plan,
        after: query.page.after(&list)?,
        ..SubscriptionFilter::default()
    };
    if let Some(slug) = &query.tenant {
        let Some(tenant) = app.tenants.find_by_slug(slug).await? else {
            return Ok(Json(PageOf::single(Vec::new())));
        };
        filter.tenant_id = Some(tenant.id);
    }
    let found = app
        .subscriptions
        .list(&filter, query.page.fetch_limit())
        .await?;
    let ids: Vec<TenantId> = found.iter().map(|found| found.tenant_id).collect();
    let tenants = app.tenants.list_by_ids(&ids).await?;
    Ok(Json(query.page.build(
        &list,
        found,
        |subscription| subscription.id.to_string(),
        |subscription| SubscriptionView::among(subscription, &tenants),
    )))
}

/// The tenants whose subscriptions the caller may see; all, when there is nothing.
async fn visible(app: &AppState, caller: &Caller) -> Result<Option<Vec<TenantId>>, ApiError> {
    if caller.is_operator() {
        return Ok(None);
    }
    let mut ids = caller.user.tenant_ids();
    if let Some(partner) = &caller.partner {
        ids.extend(app.tenants.list_ids_of_partner(partner.id).await?);
    }
    Ok(Some(ids))
}

/// A subscription
#[utoipa::path(
    get, path = "/subscriptions/{id}", operation_id = "getSubscription", tag = "subscriptions",
    params(("id" = String, Path)),
    responses((status = 200, body = SubscriptionView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(id): PathParam<SubscriptionId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    let subscription = app
        .subscriptions
        .find(id)
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let tenant = app.tenants.find(subscription.tenant_id).await?;
    answer(subscription, tenant.as_ref())
}

fn answer(subscription: Subscription, tenant: Option<&Tenant>) -> Result<ApiResponse, ApiError> {
    let etag = ETag::of_revision(subscription.revision);
    let view = SubscriptionView::new(subscription, tenant);
    ApiResponse::new(StatusCode::OK, etag, &view)
}

fn target(subscription: &Subscription, tenant: Option<&Tenant>) -> Target {
    Target {
        kind: "subscription".to_owned(),
        id: subscription.id.to_string(),
        name: tenant.map_or_else(String::new, |tenant| tenant.slug.clone()),
    }
}

/// What the audit trail shows of a subscription: what callers write.
fn audited(subscription: &Subscription) -> Result<Document, StoreError> {
    let mut shown = to_document(subscription)?;
    for field in ["_id", "revision", "createdAt", "updatedAt"] {
        shown.remove(field);
    }
    Ok(shown)
}
