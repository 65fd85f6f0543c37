//! What tenants had bought, month by month.

use axum::{Json, extract::State};
use dezky_shared::{
    billing::monthly_minor,
    billing::{Cycle, Plan},
    subscription::SubscriptionStatus,
    subscription_snapshot::{Month, SubscriptionSnapshot, SubscriptionTerms},
    tenant::TenantStatus,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{FromQuery, Operator, Page, PageOf, Parameters, QueryParams},
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// How a tenant stood in a month.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SnapshotView {
    /// Its id.
    #[schema(format = Uuid)]
    id: String,
    /// In which month.
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    /// Whose it is.
    #[schema(format = Uuid)]
    tenant_id: String,
    /// The tenant's name in URLs.
    slug: String,
    /// Where the tenant stood: `pending`, `active`, `suspended`, `terminating` or `terminated`.
    #[schema(value_type = String)]
    tenant_status: TenantStatus,
    /// The tenant's plan: `starter`, `business` or `enterprise`.
    #[schema(value_type = String)]
    plan: Plan,
    /// The partner that looked after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    partner_id: Option<String>,
    /// The subscription that was in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    subscription: Option<SubscriptionTermsView>,
    /// As of when all this is: as the month ended, if the month is over and all went well.
    taken_at: Timestamp,
}

/// What was paid, and for what.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = SnapshotSubscription)]
struct SubscriptionTermsView {
    /// Which subscription.
    #[schema(format = Uuid)]
    id: String,
    /// `active`, or `past_due`: an invoice was overdue.
    #[schema(value_type = String)]
    status: SubscriptionStatus,
    /// What was bought: `starter`, `business` or `enterprise`.
    #[schema(value_type = String)]
    plan: Plan,
    /// How often was paid: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = String)]
    cycle: Cycle,
    /// For how many people.
    seats: i32,
    /// ISO 4217.
    #[schema(example = "DKK")]
    currency: String,
    /// Price of a cycle in minor units of the currency.
    price_minor: i64,
    /// The same for a month: a twelfth of a year, to the nearest minor unit.
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

/// Which snapshots are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Of which month, in UTC.
    #[param(value_type = String, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
    month: Month,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let month = parameters.take("month", "a month such as 2026-11")?;
        let missing = || {
            let message = "Say which month, such as 2026-11.";
            ApiError::malformed(FieldError::parameter("month", "missing", message))
        };
        Ok(Self {
            month: month.ok_or_else(missing)?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// What tenants had bought in a month
///
/// One for each tenant that there was, those included that were removed, in the order in which they were made. A month
/// in progress shows how things stood at the last midnight.
#[utoipa::path(
    get, path = "/snapshots", operation_id = "listSnapshots", tag = "subscriptions", params(ListQuery, Page),
    responses((status = 200, body = PageOf<SnapshotView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<SnapshotView>>, ApiError> {
    let list = format!("snapshots?{}", query.month);
    let after = query.page.after(&list)?;
    let snapshots = app
        .snapshots
        .list(query.month, after, query.page.fetch_limit())
        .await?;
    Ok(Json(query.page.build(
        &list,
        snapshots,
        |snapshot| snapshot.id.to_string(),
        SnapshotView::from,
    )))
}
