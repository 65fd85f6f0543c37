//! The plans that can be bought, and what they cost.

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use dezky_shared::billing::{Cycle, Plan, Price};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, Problem},
    extract::{PageOf, QueryParams, SignedIn},
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// Something that can be bought.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct PlanView {
    /// Its name: `starter`, `business` or `enterprise`.
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Plan,
    /// The storage of the tenant's shared space, in bytes.
    space_quota: u64,
    /// What it costs, for each cycle that has a price, the shortest first.
    cycles: Vec<CycleView>,
}

/// What a plan costs when it is paid so often.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CycleView {
    /// How often: `monthly`, `quarterly` or `yearly`.
    #[schema(value_type = String, pattern = "^(monthly|quarterly|yearly)$")]
    cycle: Cycle,
    /// What a cycle costs in minor units, by currency (ISO 4217).
    #[schema(example = json!({ "DKK": 49_900, "EUR": 6_700 }))]
    prices: BTreeMap<String, i64>,
    /// The ids of these prices at Stripe, by currency, where they are there.
    stripe_price_ids: BTreeMap<String, String>,
}

impl PlanView {
    fn new(plan: Plan, prices: &[Price]) -> Self {
        let cycles = Cycle::ALL.into_iter().filter_map(|cycle| {
            let its: Vec<&Price> = prices
                .iter()
                .filter(|price| price.plan == plan && price.cycle == cycle)
                .collect();
            (!its.is_empty()).then(|| CycleView::new(cycle, &its))
        });
        Self {
            plan,
            space_quota: plan.space_quota(),
            cycles: cycles.collect(),
        }
    }
}

impl CycleView {
    fn new(cycle: Cycle, prices: &[&Price]) -> Self {
        let by_currency = |price: &&Price| (price.currency.clone(), price.amount_minor);
        let ids = prices
            .iter()
            .filter_map(|price| Some((price.currency.clone(), price.stripe_price_id.clone()?)));
        Self {
            cycle,
            prices: prices.iter().map(by_currency).collect(),
            stripe_price_ids: ids.collect(),
        }
    }
}

/// The plans, with their prices
#[utoipa::path(
    get, path = "/plans", operation_id = "listPlans", tag = "prices",
    responses((status = 200, body = PageOf<PlanView>), (status = "default", response = Problem)),
)]
async fn list(
    _: SignedIn,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<PlanView>>, ApiError> {
    let prices = app.prices.list_all().await?;
    let plans = Plan::ALL.map(|plan| PlanView::new(plan, &prices));
    Ok(Json(PageOf::single(plans.into())))
}
