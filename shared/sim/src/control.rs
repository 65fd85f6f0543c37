//! Control API: inspects the simulators and injects faults into them, from other processes.
//!
//! | request | effect |
//! | --- | --- |
//! | `GET /healthz` | 200 once all simulators are served |
//! | `GET /upstreams` | names and addresses |
//! | `GET /upstreams/{name}/effects` | every effect (change of state), oldest first |
//! | `GET /upstreams/{name}/state` | the whole state, without secrets |
//! | `GET /upstreams/{name}/requests` | number of requests per operation |
//! | `POST /upstreams/{name}/faults` | adds a [`FaultRule`] |
//! | `DELETE /upstreams/{name}/faults` | removes every fault, `down` included |
//! | `POST /upstreams/{name}/down` | refuses connections |
//! | `GET /upstreams/stripe/clock` | time of Stripe's clock, in seconds: `{"now"}` |
//! | `POST /upstreams/stripe/clock` | puts Stripe's clock ahead by `{"seconds"}` |
//! | `POST /upstreams/stripe/refusals` | refuses the next request of `{"operation", "refusal"}` |
//! | `POST /upstreams/stripe/webhooks` | delivers the waiting events to `{"target", "delivery"}` and returns the statuses |
//! | `POST /upstreams/stripe/endpoint` | registers `{"url", "secrets"}`, to which events are delivered from then on |
//! | `POST /upstreams/stripe/cards` | enters the test card of `{"setupIntent", "method"}`, as a person in the browser |
//! | `GET /dns` | address and records of the simulated DNS |
//! | `POST /dns/records` | publishes records: `[{"name", "type", "value"}]` |
//! | `DELETE /dns/records` | removes these records |
//! | `POST /dns/faults` | adds a [`DnsFaultRule`] |
//! | `DELETE /dns/faults` | removes every DNS fault |
//! | `POST /tokens` | signs a token for a [`TokenSpec`] |
//! | `POST /sign-in` | signs in with `{"username", "password"}` and returns a token of the portal, which the file server takes too, or 401 |
//! | `POST /app-sign-in` | signs in to an app as its relying party does, with `{"username", "password", "issuer", "clientId", "clientSecret", "redirectUri"}`, and returns the claims, or 403 |
//! | `POST /second-factors` | enrols a second factor of `{"username"}` |
//! | `POST /keys/{application}/rotate?dropOld=true` | rotates the signing keys; the old ones stay published unless dropped |

mod sign_ins;
mod stripe;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use dezky_shared::domain::check::Record;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    dns::DnsFaultRule,
    effects::Effect,
    faults::FaultRule,
    issuer::{Rotation, TokenSpec},
    simulators::{Simulated, Simulators},
};

/// Router of the control API.
pub fn router(simulators: Arc<Simulators>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok"))
        .route("/upstreams", get(list))
        .route("/upstreams/{name}/effects", get(effects))
        .route("/upstreams/{name}/state", get(state))
        .route("/upstreams/{name}/requests", get(requests))
        .route(
            "/upstreams/{name}/faults",
            post(add_fault).delete(clear_faults),
        )
        .route("/upstreams/{name}/down", post(go_down))
        .route(
            "/upstreams/stripe/clock",
            get(stripe::now).post(stripe::advance),
        )
        .route(
            "/upstreams/stripe/endpoint",
            post(stripe::register_endpoint),
        )
        .route("/upstreams/stripe/refusals", post(stripe::refuse))
        .route("/upstreams/stripe/webhooks", post(stripe::deliver))
        .route("/upstreams/stripe/cards", post(stripe::enter_card))
        .route("/dns", get(dns))
        .route("/dns/records", post(publish).delete(unpublish))
        .route("/dns/faults", post(add_dns_fault).delete(clear_dns_faults))
        .route("/tokens", post(sign_token))
        .route("/sign-in", post(sign_ins::sign_in))
        .route("/app-sign-in", post(sign_ins::sign_in_to_app))
        .route("/second-factors", post(sign_ins::enrol))
        .route("/keys/{application}/rotate", post(rotate_keys))
        .with_state(simulators)
}

type All = State<Arc<Simulators>>;

/// Error response: status and reason.
#[derive(Debug)]
struct Refusal(StatusCode, String);

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(json!({ "error": self.1 }))).into_response()
    }
}

fn find<'a>(simulators: &'a Simulators, name: &str) -> Result<&'a Simulated, Refusal> {
    let missing = || Refusal(StatusCode::NOT_FOUND, format!("unknown upstream {name}"));
    simulators.find(name).ok_or_else(missing)
}

async fn list(State(simulators): All) -> Json<BTreeMap<&'static str, String>> {
    let all = simulators.all().iter();
    Json(
        all.map(|simulated| (simulated.name, simulated.url.clone()))
            .collect(),
    )
}

async fn effects(
    State(simulators): All,
    Path(name): Path<String>,
) -> Result<Json<Vec<Effect>>, Refusal> {
    Ok(Json(find(&simulators, &name)?.effects.all()))
}

async fn state(State(simulators): All, Path(name): Path<String>) -> Result<Json<Value>, Refusal> {
    Ok(Json(find(&simulators, &name)?.state()))
}

async fn requests(
    State(simulators): All,
    Path(name): Path<String>,
) -> Result<Json<BTreeMap<String, u64>>, Refusal> {
    Ok(Json(find(&simulators, &name)?.faults.requests()))
}

async fn add_fault(
    State(simulators): All,
    Path(name): Path<String>,
    Json(rule): Json<FaultRule>,
) -> Result<StatusCode, Refusal> {
    find(&simulators, &name)?.faults.add(rule);
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(
    State(simulators): All,
    Path(name): Path<String>,
) -> Result<StatusCode, Refusal> {
    find(&simulators, &name)?.faults.clear();
    Ok(StatusCode::NO_CONTENT)
}

async fn go_down(State(simulators): All, Path(name): Path<String>) -> Result<StatusCode, Refusal> {
    find(&simulators, &name)?.faults.go_down();
    Ok(StatusCode::NO_CONTENT)
}

async fn dns(State(simulators): All) -> Json<Value> {
    let dns = &simulators.dns;
    Json(json!({ "address": dns.address, "records": dns.records() }))
}

async fn publish(
    State(simulators): All,
    Json(records): Json<Vec<Record>>,
) -> Result<StatusCode, Refusal> {
    simulators.dns.publish(&records).map_err(unprocessable)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn unpublish(
    State(simulators): All,
    Json(records): Json<Vec<Record>>,
) -> Result<StatusCode, Refusal> {
    simulators.dns.unpublish(&records).map_err(unprocessable)?;
    Ok(StatusCode::NO_CONTENT)
}

async fn add_dns_fault(State(simulators): All, Json(rule): Json<DnsFaultRule>) -> StatusCode {
    simulators.dns.fail(rule);
    StatusCode::NO_CONTENT
}

async fn clear_dns_faults(State(simulators): All) -> StatusCode {
    simulators.dns.mend();
    StatusCode::NO_CONTENT
}

async fn sign_token(
    State(simulators): All,
    Json(spec): Json<TokenSpec>,
) -> Result<Json<Value>, Refusal> {
    let token = simulators.issuer.token(&spec).map_err(unprocessable)?;
    Ok(Json(json!({ "token": token })))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct RotateQuery {
    #[serde(default)]
    drop_old: bool,
}

async fn rotate_keys(
    State(simulators): All,
    Path(application): Path<String>,
    Query(query): Query<RotateQuery>,
) -> Result<StatusCode, Refusal> {
    let rotation = if query.drop_old {
        Rotation::DropOld
    } else {
        Rotation::KeepOld
    };
    simulators
        .issuer
        .rotate(&application, rotation)
        .map_err(unprocessable)?;
    Ok(StatusCode::NO_CONTENT)
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that map_err requires"
)]
fn unprocessable(error: anyhow::Error) -> Refusal {
    Refusal(StatusCode::UNPROCESSABLE_ENTITY, format!("{error:#}"))
}
