//! Control of the simulated Stripe: its clock, its refusals, its webhooks and their endpoint, and the cards that people enter.

use axum::{Json, extract::State};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{All, Refusal as Error};
use crate::stripe::{Delivery, Refusal, WebhookTarget};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Advance {
    seconds: i64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refuse {
    operation: String,
    refusal: Refusal,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Deliver {
    target: WebhookTarget,
    #[serde(default)]
    delivery: Delivery,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct EnterCard {
    setup_intent: String,
    method: String,
}

pub(super) async fn now(State(simulators): All) -> Json<Value> {
    Json(json!({ "now": simulators.stripe.now() }))
}

pub(super) async fn register_endpoint(
    State(simulators): All,
    Json(target): Json<WebhookTarget>,
) -> StatusCode {
    simulators.stripe.register_endpoint(target);
    StatusCode::NO_CONTENT
}

pub(super) async fn advance(State(simulators): All, Json(advance): Json<Advance>) -> StatusCode {
    simulators.stripe.advance(advance.seconds);
    StatusCode::NO_CONTENT
}

pub(super) async fn refuse(State(simulators): All, Json(refuse): Json<Refuse>) -> StatusCode {
    simulators
        .stripe
        .refuse_next(&refuse.operation, refuse.refusal);
    StatusCode::NO_CONTENT
}

pub(super) async fn deliver(
    State(simulators): All,
    Json(deliver): Json<Deliver>,
) -> Result<Json<Vec<u16>>, Error> {
    let delivered = simulators.stripe.deliver(&deliver.target, deliver.delivery);
    let failed = |error: reqwest::Error| Error(StatusCode::BAD_GATEWAY, error.to_string());
    Ok(Json(delivered.await.map_err(failed)?))
}

pub(super) async fn enter_card(
    State(simulators): All,
    Json(entered): Json<EnterCard>,
) -> Result<Json<Value>, Error> {
    let entered = simulators
        .stripe
        .enter_card(&entered.setup_intent, &entered.method);
    let refused = |refusal: Refusal| Error(StatusCode::UNPROCESSABLE_ENTITY, refusal.message);
    Ok(Json(entered.map_err(refused)?))
}
