//! `/providers/oauth2/`: the protocol side of apps.

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::{Map, Value, json};

use super::{OAuthProvider, fields};
use crate::authentik::{
    Sim, State, setup,
    wire::{Body, Params, Refusal, first, page},
};

const GRANT_TYPES: [&str; 8] = [
    "authorization_code",
    "implicit",
    "hybrid",
    "refresh_token",
    "client_credentials",
    "password",
    "urn:ietf:params:oauth:grant-type:device_code",
    "urn:ietf:params:oauth:grant-type:token-exchange",
];
/// Fields that are stored as they are sent.
const PLAIN: [&str; 9] = [
    "client_secret",
    "access_code_validity",
    "access_token_validity",
    "refresh_token_validity",
    "refresh_token_threshold",
    "include_claims_in_id_token",
    "signing_key",
    "encryption_key",
    "logout_uri",
];

pub(in crate::authentik) async fn list(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    sim.require("authentik_providers_oauth2.view_oauth2provider")?;
    let state = sim.state();
    let mut providers: Vec<&OAuthProvider> = state.apps.providers.values().collect();
    for filter in ["client_id", "name"] {
        if let Some(value) = first(&params, filter).filter(|_| !state.ignores_filters) {
            providers.retain(|provider| provider.text(filter) == value);
        }
    }
    page(&params, &providers, |provider| view(&state, provider))
}

pub(in crate::authentik) async fn create(
    Shared(sim): Shared<Sim>,
    mut body: Body,
) -> Result<Response, Refusal> {
    sim.require("authentik_providers_oauth2.add_oauth2provider")?;
    let mut state = sim.state();
    body.require(&[
        "name",
        "authorization_flow",
        "invalidation_flow",
        "redirect_uris",
    ]);
    let random = |length| Alphanumeric.sample_string(&mut rand::rng(), length);
    let initial = json!({
        "name": "",
        "authentication_flow": null,
        "property_mappings": [],
        "client_type": "confidential",
        "grant_types": [],
        "client_id": random(40),
        "client_secret": random(128),
        "access_code_validity": "minutes=1",
        "access_token_validity": "hours=1",
        "refresh_token_validity": "days=30",
        "refresh_token_threshold": "seconds=0",
        "include_claims_in_id_token": true,
        "signing_key": null,
        "encryption_key": null,
        "redirect_uris": [],
        "logout_uri": "",
        "logout_method": "backchannel",
        "sub_mode": "hashed_user_id",
        "issuer_mode": "per_provider",
        "jwt_federation_sources": [],
        "jwt_federation_providers": [],
    });
    let mut provider = OAuthProvider {
        pk: state.next_number(),
        fields: initial.as_object().cloned().unwrap_or_default(),
    };
    apply(&state, &mut provider, &mut body)?;
    sim.effects.record("create_provider", provider.text("name"));
    state.apps.providers.insert(provider.pk, provider.clone());
    Ok((StatusCode::CREATED, Json(view(&state, &provider))).into_response())
}

/// A provider of an app, or one of those of the portals.
pub(in crate::authentik) async fn read(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<i64>,
) -> Result<Json<Value>, Refusal> {
    sim.require("authentik_providers_oauth2.view_oauth2provider")?;
    let state = sim.state();
    if let Some(provider) = state.apps.providers.get(&pk) {
        return Ok(Json(view(&state, provider)));
    }
    setup::provider(&state, pk).map(Json)
}

pub(in crate::authentik) async fn update(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<i64>,
    mut body: Body,
) -> Result<Json<Value>, Refusal> {
    sim.require("authentik_providers_oauth2.change_oauth2provider")?;
    let mut state = sim.state();
    let before = find(&state, pk)?.clone();
    let mut provider = before.clone();
    apply(&state, &mut provider, &mut body)?;
    if provider != before {
        sim.effects.record("update_provider", provider.text("name"));
    }
    state.apps.providers.insert(pk, provider.clone());
    Ok(Json(view(&state, &provider)))
}

pub(in crate::authentik) async fn remove(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<i64>,
) -> Result<StatusCode, Refusal> {
    sim.require("authentik_providers_oauth2.delete_oauth2provider")?;
    let mut state = sim.state();
    let provider = find(&state, pk)?.clone();
    state.apps.providers.remove(&pk);
    state.apps.end_tokens(pk);
    for application in state.apps.applications.values_mut() {
        if application.provider == Some(pk) {
            application.provider = None;
        }
    }
    state.log_openings("delete_provider");
    sim.effects.record("delete_provider", provider.text("name"));
    Ok(StatusCode::NO_CONTENT)
}

fn find(state: &State, pk: i64) -> Result<&OAuthProvider, Refusal> {
    let provider = state.apps.providers.get(&pk);
    provider.ok_or_else(|| Refusal::missing("OAuth2Provider"))
}

fn apply(state: &State, provider: &mut OAuthProvider, body: &mut Body) -> Result<(), Refusal> {
    let pk = provider.pk;
    let into = &mut provider.fields;
    unique_text(state, pk, "name", body, into);
    unique_text(state, pk, "client_id", body, into);
    for flow in ["authorization_flow", "invalidation_flow"] {
        if let Some(pk) = body.text(flow) {
            if !state.apps.references.is_flow(&pk) {
                let text = format!("Invalid pk \"{pk}\" - object does not exist.");
                body.error::<()>(flow, &text);
            }
            into.insert(flow.to_owned(), pk.into());
        }
    }
    let mappings = body.ids("property_mappings", |pk| {
        let pk = state.apps.references.is_mapping(pk).then(|| pk.clone())?;
        Some(pk)
    });
    if let Some(mut mappings) = mappings {
        // In an order of the server's own.
        mappings.sort_by_key(Value::to_string);
        into.insert("property_mappings".to_owned(), mappings.into());
    }
    fields::choice(body, "client_type", &["confidential", "public"], into);
    let modes = ["hashed_user_id", "user_id", "user_uuid", "user_username"];
    fields::choice(body, "sub_mode", &modes, into);
    fields::choice(body, "issuer_mode", &["global", "per_provider"], into);
    fields::copy(body, &PLAIN, into);
    redirect_uris(body, into);
    body.check()?;
    grant_types(body, into)
}

fn unique_text(
    state: &State,
    pk: i64,
    field: &str,
    body: &mut Body,
    into: &mut Map<String, Value>,
) {
    let Some(text) = body.text_not_blank(field) else {
        return;
    };
    let mut others = state.apps.providers.values().filter(|it| it.pk != pk);
    if others.any(|other| other.text(field) == text) {
        body.error::<()>(
            field,
            &match field {
                "name" => "provider with this name already exists.".to_owned(),
                field => format!("OAuth2/OpenID Provider with this {field} already exists."),
            },
        );
    }
    into.insert(field.to_owned(), text.into());
}

fn redirect_uris(body: &mut Body, into: &mut Map<String, Value>) {
    let Some(uris) = body.members().get("redirect_uris").cloned() else {
        return;
    };
    let Value::Array(mut uris) = uris else {
        body.error::<()>("redirect_uris", "Expected a list of items.");
        return;
    };
    for uri in uris.iter_mut().filter_map(Value::as_object_mut) {
        uri.entry("redirect_uri_type")
            .or_insert_with(|| "authorization".into());
    }
    into.insert("redirect_uris".to_owned(), uris.into());
}

/// Errors name the position of the item.
fn grant_types(body: &Body, into: &mut Map<String, Value>) -> Result<(), Refusal> {
    let Some(grants) = body.members().get("grant_types") else {
        return Ok(());
    };
    let grants = grants.as_array().cloned().unwrap_or_default();
    let is_known = |grant: &Value| grant.as_str().is_some_and(|it| GRANT_TYPES.contains(&it));
    if let Some(place) = grants.iter().position(|grant| !is_known(grant)) {
        let text = format!("{} is not a valid choice.", grants[place]);
        return Err(Refusal::invalid(
            json!({ "grant_types": { place.to_string(): [text] } }),
        ));
    }
    into.insert("grant_types".to_owned(), grants.into());
    Ok(())
}

/// As the API shows a provider.
fn view(state: &State, provider: &OAuthProvider) -> Value {
    let mut shown = provider.fields.clone();
    let application = state.apps.application_of(provider.pk);
    let slug = application.map(|(slug, _)| slug.as_str());
    shown.insert("pk".to_owned(), provider.pk.into());
    shown.insert("assigned_application_slug".to_owned(), slug.into());
    shown.insert(
        "assigned_backchannel_application_slug".to_owned(),
        Value::Null,
    );
    shown.into()
}
