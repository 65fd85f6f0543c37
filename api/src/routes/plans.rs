//! Plans and their prices.

use std::collections::BTreeMap;

use axum::Json;
use dezky_shared::{
    allowance::Allowance,
    billing::{Cycle, Plan, Price},
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    extract::{PageOf, SignedIn},
    read::{Get, ListResult},
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new().routes(routes!(list))
}

/// A plan.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Plan)]
struct PlanView {
    /// Name: `starter`, `business` or `enterprise`.
    plan: Plan,
    /// Storage of the tenant's shared space, in bytes. 0 is unlimited.
    space_quota: u64,
    /// Storage of a mailbox, in bytes. 0 is unlimited.
    mailbox_quota: u64,
    /// Billing cycles that have a price, shortest first.
    cycles: Vec<CycleView>,
}

/// Prices of a plan per billing cycle.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PlanCycle)]
struct CycleView {
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    cycle: Cycle,
    /// Price per billing cycle in minor units, by currency (ISO 4217).
    #[schema(example = json!({ "DKK": 49_900, "EUR": 6_700 }))]
    prices: BTreeMap<String, i64>,
    /// Price ids at Stripe, by currency.
    stripe_price_ids: BTreeMap<String, String>,
}

impl PlanView {
    fn new(allowance: &Allowance, prices: &[Price]) -> Self {
        let plan = allowance.plan;
        let cycles = Cycle::ALL.into_iter().filter_map(|cycle| {
            let its: Vec<&Price> = prices
                .iter()
                .filter(|price| price.plan == plan && price.cycle == cycle)
                .collect();
            (!its.is_empty()).then(|| CycleView::new(cycle, &its))
        });
        Self {
            plan,
            space_quota: allowance.space_quota(),
            mailbox_quota: allowance.mailbox_quota(),
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

/// Lists plans with their prices
#[utoipa::path(get, path = "/plans", operation_id = "listPlans", tag = "prices", responses((status = 200, body = PageOf<PlanView>)))]
async fn list(get: Get<SignedIn>) -> ListResult<PlanView> {
    let prices = get.app.db.prices.list_all().await?;
    let allowances = get.app.db.allowances.list_all().await?;
    let plans = allowances.values();
    let plans = plans.map(|allowance| PlanView::new(allowance, &prices));
    Ok(Json(PageOf::single(plans.collect())))
}
