//! OIDC endpoints of apps: discovery, keys, authorization and sign-out. A user is signed in with the cookie of a session.

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode, header};
use rand::distr::{Alphanumeric, SampleString as _};
use reqwest::Url;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Application, OAuthProvider};
use crate::authentik::{
    Sim, State,
    wire::{Params, first},
};

/// Cookie of a browser session, whose value is the session's id.
pub const SESSION_COOKIE: &str = "authentik_session";

/// An authorization code that was not redeemed yet.
#[derive(Debug, Clone)]
pub(super) struct Code {
    pub(super) provider: i64,
    pub(super) user: i64,
    pub(super) session: Uuid,
    pub(super) redirect_uri: String,
    pub(super) scope: String,
    pub(super) nonce: Option<String>,
    /// PKCE challenge and its method.
    pub(super) challenge: Option<(String, String)>,
}

/// Missing for an application without a provider.
pub(in crate::authentik) async fn discovery(
    Shared(sim): Shared<Sim>,
    Path(slug): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Value>, StatusCode> {
    let state = sim.state();
    attached(&state, &slug).ok_or(StatusCode::NOT_FOUND)?;
    let root = root(&headers);
    let issuer = format!("{root}{slug}/");
    Ok(Json(json!({
        "issuer": issuer,
        "authorization_endpoint": format!("{root}authorize/"),
        "token_endpoint": format!("{root}token/"),
        "userinfo_endpoint": format!("{root}userinfo/"),
        "end_session_endpoint": format!("{issuer}end-session/"),
        "jwks_uri": format!("{issuer}jwks/"),
        "response_types_supported": ["code"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "subject_types_supported": ["public"],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "scopes_supported": ["openid", "email", "profile", "offline_access"],
        "code_challenge_methods_supported": ["plain", "S256"],
    })))
}

pub(in crate::authentik) async fn jwks(
    Shared(sim): Shared<Sim>,
    Path(slug): Path<String>,
) -> Result<Json<Value>, StatusCode> {
    let state = sim.state();
    attached(&state, &slug).ok_or(StatusCode::NOT_FOUND)?;
    Ok(Json(state.apps.signer.published()))
}

/// Ends the session of the cookie.
pub(in crate::authentik) async fn end_session(
    Shared(sim): Shared<Sim>,
    Path(slug): Path<String>,
    headers: HeaderMap,
) -> Result<Html<&'static str>, StatusCode> {
    let mut state = sim.state();
    attached(&state, &slug).ok_or(StatusCode::NOT_FOUND)?;
    if let Some(session) = session_of(&headers) {
        state.sessions.remove(&session);
    }
    Ok(Html("You've logged out."))
}

/// Redirects with a code if the user of the session may use the application. Otherwise shows a page: no redirect tells
/// the relying party.
pub(in crate::authentik) async fn authorize(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
    headers: HeaderMap,
) -> Response {
    let mut state = sim.state();
    let Some((provider, application)) = client(&state, &params) else {
        return (StatusCode::BAD_REQUEST, Html("Invalid client identifier.")).into_response();
    };
    let redirect_uri = first(&params, "redirect_uri")
        .unwrap_or_default()
        .to_owned();
    if !allows_redirect(&provider, &redirect_uri) {
        return (StatusCode::BAD_REQUEST, Html("Redirect URI Error.")).into_response();
    }
    let is_allowed = provider.lists("grant_types", "authorization_code")
        && first(&params, "response_type") == Some("code");
    if !is_allowed {
        return back(&redirect_uri, &params, &[("error", "invalid_request")]);
    }
    let session = session_of(&headers);
    let user = session
        .and_then(|id| state.sessions.get(&id))
        .map(|it| it.user);
    let user = user.and_then(|pk| state.users.get(&pk)).cloned();
    let (Some(session), Some(user)) = (session, user) else {
        return Redirect::to("/if/flow/default-authentication-flow/").into_response();
    };
    if !state.admits(&application, &user) {
        return Html("Permission denied").into_response();
    }
    let value = Alphanumeric.sample_string(&mut rand::rng(), 32);
    let text = |name: &str| first(&params, name).map(str::to_owned);
    let method = text("code_challenge_method").unwrap_or_else(|| "plain".to_owned());
    let code = Code {
        provider: provider.pk,
        user: user.pk,
        session,
        scope: text("scope").unwrap_or_default(),
        nonce: text("nonce"),
        challenge: text("code_challenge").map(|challenge| (challenge, method)),
        redirect_uri: redirect_uri.clone(),
    };
    state.apps.codes.insert(value.clone(), code);
    back(&redirect_uri, &params, &[("code", &value)])
}

/// The attached application of this slug, with its provider.
fn attached<'a>(state: &'a State, slug: &str) -> Option<(&'a OAuthProvider, &'a Application)> {
    let application = state.apps.applications.get(slug)?;
    let provider = state.apps.providers.get(&application.provider?)?;
    Some((provider, application))
}

/// The provider that the request names, and its application.
fn client(state: &State, params: &Params) -> Option<(OAuthProvider, Application)> {
    let provider = state.apps.provider_of(first(params, "client_id")?)?;
    let (_, application) = state.apps.application_of(provider.pk)?;
    Some((provider.clone(), application.clone()))
}

fn allows_redirect(provider: &OAuthProvider, redirect_uri: &str) -> bool {
    let uris = provider.fields.get("redirect_uris");
    let uris = uris
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    uris.iter()
        .any(|uri| uri["matching_mode"] == "strict" && uri["url"] == redirect_uri)
}

/// Redirects to the relying party with these parameters and its state.
fn back(redirect_uri: &str, params: &Params, with: &[(&str, &str)]) -> Response {
    let Ok(mut url) = Url::parse(redirect_uri) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    url.query_pairs_mut().extend_pairs(with);
    if let Some(state) = first(params, "state") {
        url.query_pairs_mut().append_pair("state", state);
    }
    (StatusCode::FOUND, [(header::LOCATION, url.as_str())]).into_response()
}

fn session_of(headers: &HeaderMap) -> Option<Uuid> {
    let cookies = headers.get(header::COOKIE)?.to_str().ok()?;
    let mut cookies = cookies.split("; ");
    let value = cookies.find_map(|cookie| cookie.strip_prefix(SESSION_COOKIE)?.strip_prefix('='));
    value?.parse().ok()
}

/// `https://HOST/application/o/`, for the host of the request.
pub(super) fn root(headers: &HeaderMap) -> String {
    let host = headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    format!("http://{}/application/o/", host.unwrap_or("localhost"))
}
