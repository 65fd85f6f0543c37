//! HTTP interface: authentication and idempotency keys.

use std::sync::{Arc, Mutex, PoisonError};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State as AxumState,
    response::{IntoResponse, Response},
};
use dezky_upstreams::clients::simulated;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use serde_json::Value;

use super::{
    API_VERSION, form,
    idempotency::Answer,
    params::Params,
    refusal::Refusal,
    routes::{Handler, PREVIEW, find},
    state::State,
};
use crate::{effects::Effects, server::Classified};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const VERSION: HeaderName = HeaderName::from_static("stripe-version");
/// Longest accepted key.
const MAX_KEY: usize = 255;

/// State shared by the requests.
#[derive(Debug, Clone, Default)]
pub(super) struct Shared {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) effects: Effects,
}

impl Shared {
    pub(super) fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) fn router(shared: Shared) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

/// Name of a request's operation. All but reads count as writes.
pub(super) fn classify(method: &Method, path: &str, _: &HeaderMap, _: &[u8]) -> Classified {
    let operation = find(method.as_str(), path).map_or("unknown", |(operation, ..)| operation);
    Classified {
        operation,
        write: is_write(method, operation),
    }
}

/// Whether a request may change something. A preview is requested by POST, and changes nothing.
fn is_write(method: &Method, operation: &str) -> bool {
    [Method::POST, Method::DELETE].contains(method) && operation != PREVIEW
}

async fn answer(
    AxumState(shared): AxumState<Shared>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut state = shared.lock();
    state.last_request += 1;
    let id = format!("req_sim{}", state.last_request);
    let body = String::from_utf8_lossy(&body);
    let (answer, is_replayed) = match check(&headers) {
        Err(refusal) => (Err(refusal), false),
        Ok(()) => run(&mut state, &shared.effects, &method, &uri, &headers, &body),
    };
    drop(state);

    let mut response = match answer {
        Ok(object) => Json(object).into_response(),
        Err(refusal) => refusal.into_response(),
    };
    let set = response.headers_mut();
    if let Ok(id) = HeaderValue::from_str(&id) {
        set.insert(REQUEST_ID, id);
    }
    set.insert(VERSION, HeaderValue::from_static(API_VERSION));
    if is_replayed {
        set.insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// Checks the secret key and the version.
fn check(headers: &HeaderMap) -> Result<(), Refusal> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let token = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    if token != Some(simulated::STRIPE_SECRET_KEY) {
        return Err(Refusal::unauthorized());
    }
    if text(VERSION) != Some(API_VERSION) {
        return Err(Refusal::invalid("Invalid Stripe API version."));
    }
    Ok(())
}

/// Runs a request, or replays its result. Returns whether it was replayed.
fn run(
    state: &mut State,
    effects: &Effects,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &str,
) -> (Answer, bool) {
    let Some((operation, handler, ids)) = find(method.as_str(), uri.path()) else {
        return (Err(Refusal::no_route()), false);
    };
    let key = headers
        .get(IDEMPOTENCY_KEY)
        .filter(|_| *method == Method::POST);
    let key = key.map(|key| String::from_utf8_lossy(key.as_bytes()).into_owned());
    if key.as_ref().is_some_and(|key| key.len() > MAX_KEY) {
        return (
            Err(Refusal::invalid("The idempotency key is too long.")),
            false,
        );
    }
    let request = format!("{} {body}", uri.path());
    let now = state.now();
    if let Some(known) = key
        .as_ref()
        .and_then(|key| state.keys.find(key, &request, now))
    {
        let is_replayed = known.as_ref().err() != Some(&Refusal::key_reused());
        return (known, is_replayed);
    }
    state.running_key.clone_from(&key);
    let form = if *method == Method::POST {
        body
    } else {
        uri.query().unwrap_or_default()
    };
    let answer = match state.take_refusal(operation) {
        Some(refusal) => Err(refusal),
        None => execute(state, handler, &ids, form),
    };
    state.running_key = None;
    if let Ok(object) = &answer
        && is_write(method, operation)
    {
        effects.record(operation, key_of(object));
    }
    if let Some(key) = key {
        state.keys.store(&key, request, &answer, now);
    }
    (answer, false)
}

fn execute(state: &mut State, handler: Handler, ids: &[&str], form: &str) -> Answer {
    let Some(given) = form::decode(form) else {
        return Err(Refusal::invalid("The parameters cannot be decoded."));
    };
    let mut params = Params::new(given);
    let paths = params.list("expand")?.unwrap_or_default();
    let mut object = handler(state, ids, &mut params)?;
    for path in paths {
        state.expand(&mut object, &path);
    }
    Ok(object)
}

/// Key of an effect: the tenant that the object's metadata name, else the lookup key of a price, else the object's id.
fn key_of(object: &Value) -> &str {
    let tenant = object["metadata"]["tenantId"].as_str();
    let key = tenant.or(object["lookup_key"].as_str());
    key.or(object["id"].as_str()).unwrap_or_default()
}

impl State {
    fn take_refusal(&mut self, operation: &str) -> Option<Refusal> {
        let position = self.refusals.iter().position(|(of, _)| of == operation)?;
        self.refusals.remove(position).map(|(_, refusal)| refusal)
    }
}
