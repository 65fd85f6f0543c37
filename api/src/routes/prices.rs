//! Prices of the plans: one per plan, billing cycle and currency. For operators.

use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan, Price},
    id::PriceId,
    store::prices::PriceRepository,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{
        EmptyBody, Operator, Page, PageOf, PathParam, PlatformReader, QueryParams, Validate,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::SharedState,
    timestamp::Timestamp,
    validate::{self, FieldPatch, Validator, double_option, money, name_of},
    write::{Resource, Write},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create))
        .routes(routes!(show, update, delete))
}

/// A price.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Price)]
pub struct PriceView {
    /// Id.
    id: String,
    /// Plan: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    cycle: Cycle,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Price per billing cycle, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Price id at Stripe.
    #[serde(skip_serializing_if = "Option::is_none")]
    stripe_price_id: Option<String>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
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

impl Resource for Price {
    const KIND: &'static str = "price";
    const PATH: &'static str = "/prices";
    type View = PriceView;
    type Repository = PriceRepository;

    fn name(&self) -> String {
        let (plan, cycle) = (name_of(&self.plan), name_of(&self.cycle));
        format!("{plan} {cycle} {}", self.currency)
    }
}

/// A new price.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PriceCreate)]
struct CreateRequest {
    /// Plan: `starter`, `business` or `enterprise`.
    #[schema(value_type = Plan)]
    plan: String,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = Cycle)]
    cycle: String,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Price per billing cycle, in minor units.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Price id at Stripe.
    #[schema(pattern = "^price_[A-Za-z0-9_]+$", max_length = 255)]
    stripe_price_id: Option<String>,
}

/// A validated new price.
#[derive(Debug, Clone)]
struct NewPrice {
    plan: Plan,
    cycle: Cycle,
    currency: String,
    amount_minor: i64,
    stripe_price_id: Option<String>,
}

impl Validate for NewPrice {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let plan = validator.check("/plan", validate::plan(&raw.plan));
        let cycle = validator.check("/cycle", money::cycle(&raw.cycle));
        let currency = validator.check("/currency", money::currency(&raw.currency));
        let amount_minor = validator.check("/amountMinor", money::price(raw.amount_minor));
        let stripe_price_id = raw
            .stripe_price_id
            .and_then(|id| validator.check("/stripePriceId", money::stripe_price_id(&id)));
        validator.build(|| {
            Some(Self {
                plan: plan?,
                cycle: cycle?,
                currency: currency?,
                amount_minor: amount_minor?,
                stripe_price_id,
            })
        })
    }
}

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PricePatch {
    /// Price per billing cycle, in minor units.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: Option<i64>,
    /// Price id at Stripe.
    #[serde(default)]
    #[schema(value_type = Option<String>, pattern = "^price_[A-Za-z0-9_]+$", max_length = 255)]
    stripe_price_id: FieldPatch<String>,
}

impl Validate for PricePatch {
    type Raw = Self;

    fn validate(raw: Self, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self {
            amount_minor: raw
                .amount_minor
                .and_then(|minor| validator.check("/amountMinor", money::price(minor))),
            stripe_price_id: raw
                .stripe_price_id
                .check(&mut validator, "/stripePriceId", |id| {
                    money::stripe_price_id(&id)
                }),
        };
        validator.finish(Some(patch))
    }
}

/// Lists prices, oldest first
#[utoipa::path(get, path = "/prices", operation_id = "listPrices", tag = "prices", params(Page), responses((status = 200, body = PageOf<PriceView>)))]
async fn list(get: Get<PlatformReader, QueryParams<Page>>) -> ListResult<PriceView> {
    get.list::<Price>().await
}

/// Returns a price
#[utoipa::path(get, path = "/prices/{id}", operation_id = "getPrice", tag = "prices", responses((status = 200, body = PriceView)))]
async fn show(get: Get<PlatformReader, PathParam<PriceId>>) -> Result<ApiResponse, ApiError> {
    get.show::<Price>().await
}

/// Creates a price
///
/// A plan has one price per billing cycle and currency.
#[utoipa::path(post, path = "/prices", operation_id = "createPrice", tag = "prices", request_body = CreateRequest, responses((status = 201, body = PriceView)))]
async fn create(w: Write<Operator, NewPrice>) -> Result<ApiResponse, ApiError> {
    let new = w.body.clone();
    let now = w.app.store.now();
    let price = Price {
        id: PriceId::new(),
        plan: new.plan,
        cycle: new.cycle,
        currency: new.currency,
        amount_minor: new.amount_minor,
        stripe_price_id: new.stripe_price_id,
        revision: 1,
        created_at: now,
        updated_at: now,
    };
    w.create(Action::PriceCreate, price).await
}

/// Updates a price
///
/// Existing subscriptions keep theirs.
#[utoipa::path(patch, path = "/prices/{id}", operation_id = "updatePrice", tag = "prices", request_body = PricePatch, responses((status = 200, body = PriceView)))]
async fn update(
    w: Write<Operator, PricePatch, PathParam<PriceId>>,
) -> Result<ApiResponse, ApiError> {
    w.update(Action::PriceUpdate, w.params.0, |price: &mut Price| {
        price.amount_minor = w.body.amount_minor.unwrap_or(price.amount_minor);
        w.body.stripe_price_id.apply(&mut price.stripe_price_id);
        Ok(())
    })
    .await
}

/// Deletes a price and returns it
///
/// Existing subscriptions keep theirs.
#[utoipa::path(delete, path = "/prices/{id}", operation_id = "deletePrice", tag = "prices", responses((status = 200, body = PriceView)))]
async fn delete(
    w: Write<Operator, EmptyBody, PathParam<PriceId>>,
) -> Result<ApiResponse, ApiError> {
    w.delete::<Price>(Action::PriceDelete, w.params.0).await
}
