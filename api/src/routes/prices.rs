//! The price list, for operators: a price for each plan, cycle and currency.

mod change;
mod create;

use axum::{Json, extract::State};
use bson::Document;
use dezky_shared::{
    audit::Target,
    billing::{Cycle, Plan, Price},
    id::PriceId,
    store::{StoreError, to_document},
};
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{ETag, Operator, Page, PageOf, PathParam, QueryParams},
    intent::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, change::patch, change::delete))
}

/// What a plan costs.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PriceView {
    /// Its id.
    id: String,
    /// Of what: `starter`, `business` or `enterprise`.
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Plan,
    /// Paid how often: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = String, pattern = "^(monthly|quarterly|yearly)$")]
    cycle: Cycle,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// What a cycle costs, in minor units of the currency.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Its id at Stripe, once it is there.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_price_id: Option<String>,
    /// + 1 with every change.
    revision: i64,
    /// When it was set.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

impl From<Price> for PriceView {
    fn from(price: Price) -> Self {
        Self {
            id: price.id.to_string(),
            plan: price.plan,
            cycle: price.cycle,
            currency: price.currency,
            amount_minor: price.amount_minor,
            stripe_price_id: price.stripe_price_id,
            revision: price.revision,
            created_at: price.created_at.into(),
            updated_at: price.updated_at.into(),
        }
    }
}

/// The prices, oldest first
#[utoipa::path(
    get, path = "/prices", operation_id = "listPrices", tag = "prices", params(Page),
    responses((status = 200, body = PageOf<PriceView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<PriceView>>, ApiError> {
    let list = "prices";
    let prices = app
        .prices
        .list(page.after(list)?, page.fetch_limit())
        .await?;
    Ok(Json(page.build(
        list,
        prices,
        |price| price.id.to_string(),
        PriceView::from,
    )))
}

/// A price
#[utoipa::path(
    get, path = "/prices/{id}", operation_id = "getPrice", tag = "prices", params(("id" = String, Path)),
    responses((status = 200, body = PriceView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(id): PathParam<PriceId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<ApiResponse, ApiError> {
    answer(app.prices.find(id).await?.ok_or(ProblemCode::NotFound)?)
}

fn answer(price: Price) -> Result<ApiResponse, ApiError> {
    let etag = ETag::of_revision(price.revision);
    ApiResponse::new(StatusCode::OK, etag, &PriceView::from(price))
}

fn target(price: &Price) -> Result<Target, StoreError> {
    let price_of = to_document(price)?;
    let word = |field: &str| price_of.get_str(field).unwrap_or_default().to_owned();
    Ok(Target {
        kind: "price".to_owned(),
        id: price.id.to_string(),
        name: format!("{} {} {}", word("plan"), word("cycle"), price.currency),
    })
}

/// What the audit trail shows of a price: what callers write.
fn audited(price: &Price) -> Result<Document, StoreError> {
    let mut shown = to_document(price)?;
    for field in ["_id", "revision", "createdAt", "updatedAt"] {
        shown.remove(field);
    }
    Ok(shown)
}
