//! Monthly subscription snapshots.

use axum::Json;
use dezky_shared::{
    billing::{Cycle, Plan, month::Month, monthly_minor},
    subscription::SubscriptionStatus,
    subscription_snapshot::{SubscriptionSnapshot, SubscriptionTerms},
    tenant::TenantStatus,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, FieldError},
    extract::{FromQuery, Page, PageOf, Parameters, PlatformReader, QueryParams},
    read::{Get, ListResult},
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A tenant's plan and subscription in a month.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Snapshot)]
struct SnapshotView {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Month.
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    /// Tenant id.
    #[schema(format = Uuid)]
    tenant_id: String,
    /// Tenant slug.
    slug: String,
    /// Tenant status: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    tenant_status: TenantStatus,
    /// Tenant plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Partner id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    partner_id: Option<String>,
    /// Live subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<SubscriptionTermsView>,
    /// Time of the snapshot: the end of the month once it is over, unless the job ran late.
    taken_at: Timestamp,
}

/// Terms of a subscription.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotSubscription)]
struct SubscriptionTermsView {
    /// Subscription id.
    #[schema(format = Uuid)]
    id: String,
    /// Status: `active` or `past_due` (an invoice was overdue).
    status: SubscriptionStatus,
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    cycle: Cycle,
    /// Number of seats.
    seats: i32,
    /// Currency (ISO 4217).
    #[schema(example = "DKK")]
    currency: String,
    /// Price per billing cycle, in minor units.
    price_minor: i64,
    /// Price per month, rounded to the nearest minor unit.
    monthly_minor: i64,
}

impl From<SubscriptionTerms> for SubscriptionTermsView {
    fn from(terms: SubscriptionTerms) -> Self {
        Self {
            id: terms.id.to_string(),
            status: terms.status,
            plan: terms.plan,
            cycle: terms.cycle,
            seats: terms.seats,
            currency: terms.currency,
            price_minor: terms.price_minor,
            monthly_minor: monthly_minor(terms.price_minor, terms.cycle),
        }
    }
}

impl From<SubscriptionSnapshot> for SnapshotView {
    fn from(snapshot: SubscriptionSnapshot) -> Self {
        Self {
            id: snapshot.id.to_string(),
            month: snapshot.month,
            tenant_id: snapshot.tenant_id.to_string(),
            slug: snapshot.slug,
            tenant_status: snapshot.tenant_status,
            plan: snapshot.plan,
            partner_id: snapshot.partner_id.map(|id| id.to_string()),
            subscription: snapshot.subscription.map(SubscriptionTermsView::from),
            taken_at: snapshot.taken_at.into(),
        }
    }
}

/// Filter of a snapshot list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Month in UTC.
    #[param(value_type = String, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
    month: Month,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let month = parameters.take("month", "a month such as 2026-11")?;
        let missing = || {
            let message = "This parameter is required, for example 2026-11.";
            ApiError::malformed(FieldError::parameter("month", "missing", message))
        };
        Ok(Self {
            month: month.ok_or_else(missing)?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the subscription snapshots of a month
///
/// One per tenant, removed ones included, oldest tenant first. The current month's snapshots are as of the last midnight.
#[utoipa::path(
    get, path = "/snapshots", operation_id = "listSnapshots", tag = "subscriptions", params(ListQuery, Page),
    responses((status = 200, body = PageOf<SnapshotView>)),
)]
async fn list(get: Get<PlatformReader, QueryParams<ListQuery>>) -> ListResult<SnapshotView> {
    let QueryParams(query) = get.params;
    let list = format!("snapshots?{}", query.month);
    let after = query.page.after(&list)?;
    let (month, limit) = (query.month, query.page.fetch_limit());
    let snapshots = get.app.db.snapshots.list(month, after, limit).await?;
    let id = |snapshot: &SubscriptionSnapshot| snapshot.id.to_string();
    let view = SnapshotView::from;
    Ok(Json(query.page.build(&list, snapshots, id, view)))
}
