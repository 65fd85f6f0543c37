//! HTTP interface: authentication, idempotency keys, and the table of routes.

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
    API_VERSION, form, idempotency::Answer, params::Params, refusal::Refusal, state::State,
};
use crate::{effects::Effects, server::Classified};

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const REQUEST_ID: HeaderName = HeaderName::from_static("request-id");
const VERSION: HeaderName = HeaderName::from_static("stripe-version");
/// Longest accepted key.
const MAX_KEY: usize = 255;

type Handler = fn(&mut State, &[&str], &mut Params) -> Answer;

/// Method, path below `/v1/` with `*` for an id, name of the operation, handler.
const ROUTES: [(&str, &str, &str, Handler); 35] = [
    (
        "POST",
        "customers",
        "create_customer",
        State::create_customer,
    ),
    ("GET", "customers", "list_customers", State::list_customers),
    (
        "GET",
        "customers/*",
        "retrieve_customer",
        State::retrieve_customer,
    ),
    (
        "POST",
        "customers/*",
        "update_customer",
        State::update_customer,
    ),
    (
        "DELETE",
        "customers/*",
        "delete_customer",
        State::delete_customer,
    ),
    (
        "POST",
        "customers/*/tax_ids",
        "create_tax_id",
        State::create_tax_id,
    ),
    (
        "GET",
        "customers/*/tax_ids",
        "list_tax_ids",
        State::list_tax_ids,
    ),
    (
        "GET",
        "customers/*/tax_ids/*",
        "retrieve_tax_id",
        State::retrieve_tax_id,
    ),
    (
        "DELETE",
        "customers/*/tax_ids/*",
        "delete_tax_id",
        State::delete_tax_id,
    ),
    (
        "GET",
        "customers/*/payment_methods",
        "list_payment_methods",
        State::list_customer_payment_methods,
    ),
    (
        "POST",
        "setup_intents",
        "create_setup_intent",
        State::create_setup_intent,
    ),
    (
        "GET",
        "setup_intents",
        "list_setup_intents",
        State::list_setup_intents,
    ),
    (
        "GET",
        "setup_intents/*",
        "retrieve_setup_intent",
        State::retrieve_setup_intent,
    ),
    (
        "POST",
        "setup_intents/*/confirm",
        "confirm_setup_intent",
        State::confirm_setup_intent,
    ),
    (
        "POST",
        "setup_intents/*/cancel",
        "cancel_setup_intent",
        State::cancel_setup_intent,
    ),
    (
        "GET",
        "payment_methods",
        "list_payment_methods",
        State::list_payment_methods,
    ),
    (
        "GET",
        "payment_methods/*",
        "retrieve_payment_method",
        State::retrieve_payment_method,
    ),
    (
        "POST",
        "payment_methods/*/attach",
        "attach_payment_method",
        State::attach_payment_method,
    ),
    (
        "POST",
        "payment_methods/*/detach",
        "detach_payment_method",
        State::detach_payment_method,
    ),
    ("POST", "invoices", "create_invoice", State::create_invoice),
    ("GET", "invoices", "list_invoices", State::list_invoices),
    (
        "DELETE",
        "invoices/*",
        "delete_invoice",
        State::delete_invoice,
    ),
    (
        "POST",
        "invoiceitems",
        "create_invoice_item",
        State::create_invoice_item,
    ),
    (
        "POST",
        "invoices/*/finalize",
        "finalize_invoice",
        State::finalize_invoice,
    ),
    (
        "POST",
        "invoices/*/send",
        "send_invoice",
        State::send_invoice,
    ),
    (
        "POST",
        "invoices/*/void",
        "void_invoice",
        State::void_invoice,
    ),
    ("POST", "invoices/*/pay", "pay_invoice", State::pay_invoice),
    (
        "GET",
        "invoices/*",
        "retrieve_invoice",
        State::retrieve_invoice,
    ),
    (
        "GET",
        "invoices/*/lines",
        "list_invoice_lines",
        State::list_invoice_lines,
    ),
    (
        "GET",
        "invoice_payments",
        "list_invoice_payments",
        State::list_invoice_payments,
    ),
    (
        "GET",
        "credit_notes",
        "list_credit_notes",
        State::list_credit_notes,
    ),
    ("GET", "refunds", "list_refunds", State::list_refunds),
    ("GET", "disputes", "list_disputes", State::list_disputes),
    ("GET", "events", "list_events", State::list_events),
    ("GET", "events/*", "retrieve_event", State::retrieve_event),
];

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
        write: *method == Method::POST || *method == Method::DELETE,
    }
}

fn find<'p>(method: &str, path: &'p str) -> Option<(&'static str, Handler, Vec<&'p str>)> {
    let path = path.strip_prefix("/v1/")?;
    ROUTES.iter().find_map(|(of, pattern, operation, handler)| {
        let ids = matched(pattern, path)?;
        (*of == method).then_some((*operation, *handler, ids))
    })
}

/// The segments at the stars of `pattern`, if `path` matches it.
fn matched<'p>(pattern: &str, path: &'p str) -> Option<Vec<&'p str>> {
    let mut ids = Vec::new();
    let mut segments = path.split('/');
    for expected in pattern.split('/') {
        let segment = segments.next()?;
        match expected {
            "*" => ids.push(segment),
            _ if expected == segment => {}
            _ => return None,
        }
    }
    segments.next().is_none().then_some(ids)
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
        && *method != Method::GET
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

/// Key of an effect: the tenant that the object's metadata name, else the object's id.
fn key_of(object: &Value) -> &str {
    let tenant = object["metadata"]["tenantId"].as_str();
    tenant.or(object["id"].as_str()).unwrap_or_default()
}

impl State {
    fn take_refusal(&mut self, operation: &str) -> Option<Refusal> {
        let position = self.refusals.iter().position(|(of, _)| of == operation)?;
        self.refusals.remove(position).map(|(_, refusal)| refusal)
    }
}
