//! Token and userinfo endpoints.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use dezky_shared::platform::clock;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::{
    super::{APPLICATIONS, IssuerState},
    ACCESS_SECONDS, CLIENT_SECRET, Grant, SignInState, random,
    request::Fields,
    token_of,
};
use crate::authentik::challenge_of;

/// Error of a refused token request.
type Refusal = (StatusCode, &'static str);

const INVALID_CLIENT: Refusal = (StatusCode::UNAUTHORIZED, "invalid_client");
const INVALID_GRANT: Refusal = (StatusCode::BAD_REQUEST, "invalid_grant");

pub(super) async fn token(
    State(state): State<Arc<IssuerState>>,
    headers: HeaderMap,
    body: String,
) -> Response {
    match issue(&state, &headers, Fields::parse(&body)) {
        Ok(tokens) => {
            let no_store = [(header::CACHE_CONTROL, "no-store")];
            (no_store, Json(tokens)).into_response()
        }
        Err((status, error)) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Basic realm=\"simulated\"")];
            let body = Json(json!({ "error": error }));
            if status == StatusCode::UNAUTHORIZED {
                (status, challenge, body).into_response()
            } else {
                (status, body).into_response()
            }
        }
    }
}

fn issue(state: &IssuerState, headers: &HeaderMap, mut form: Fields) -> Result<Value, Refusal> {
    authenticate(headers, &mut form)?;
    let client = form.get("client_id").unwrap_or_default();
    if !APPLICATIONS.contains(&client) {
        return Err(INVALID_CLIENT);
    }
    let mut sign_ins = state.sign_ins.state();
    let grant = match form.get("grant_type") {
        Some("authorization_code") => by_code(&mut sign_ins, &form)?,
        Some("refresh_token") => by_refresh_token(&mut sign_ins, &form)?,
        _ => return Err((StatusCode::BAD_REQUEST, "unsupported_grant_type")),
    };
    tokens(state, &mut sign_ins, grant)
}

/// Checks the client's secret, if it sends one: in the form, or in the header.
fn authenticate(headers: &HeaderMap, form: &mut Fields) -> Result<(), Refusal> {
    if let Some(header) = headers.get(header::AUTHORIZATION) {
        let decoded = header
            .to_str()
            .ok()
            .and_then(|value| value.strip_prefix("Basic "))
            .and_then(|value| BASE64_STANDARD.decode(value).ok())
            .and_then(|value| String::from_utf8(value).ok());
        let decoded = decoded.ok_or(INVALID_CLIENT)?;
        let (id, secret) = decoded.split_once(':').ok_or(INVALID_CLIENT)?;
        // Both are encoded as in a form (RFC 6749, section 2.3.1).
        let credentials = Fields::parse(&format!("client_id={id}&client_secret={secret}"));
        for (name, value) in credentials.pairs() {
            form.push(name, value);
        }
    }
    match form.get("client_secret") {
        Some(secret) if secret != CLIENT_SECRET => Err(INVALID_CLIENT),
        _ => Ok(()),
    }
}

/// A code is redeemed once.
fn by_code(sign_ins: &mut SignInState, form: &Fields) -> Result<Grant, Refusal> {
    let code = form.get("code").unwrap_or_default();
    let code = sign_ins.codes.remove(code).ok_or(INVALID_GRANT)?;
    let now = clock::now().timestamp_millis() / 1000;
    let verifier = form.get("code_verifier").unwrap_or_default();
    let is_valid = code.expires_at > now
        && form.get("client_id") == Some(code.grant.application.as_str())
        && form.get("redirect_uri") == Some(code.redirect_uri.as_str())
        && challenge_of(verifier) == code.challenge;
    is_valid.then_some(code.grant).ok_or(INVALID_GRANT)
}

/// A refresh token is replaced when it is used. One that is used again was stolen, or its replacement was: all tokens of the
/// session end.
fn by_refresh_token(sign_ins: &mut SignInState, form: &Fields) -> Result<Grant, Refusal> {
    let token = form.get("refresh_token").unwrap_or_default();
    if let Some(session) = sign_ins.used.get(token).cloned() {
        sign_ins.end(&session);
        return Err(INVALID_GRANT);
    }
    let grant = sign_ins.refresh_tokens.get(token);
    let is_own =
        grant.is_some_and(|grant| form.get("client_id") == Some(grant.application.as_str()));
    if !is_own {
        return Err(INVALID_GRANT);
    }
    let grant = sign_ins.refresh_tokens.remove(token).ok_or(INVALID_GRANT)?;
    let session = grant.session.clone();
    sign_ins.used.insert(token.to_owned(), session);
    Ok(Grant {
        nonce: None,
        ..grant
    })
}

/// Access token, id token, and a refresh token for the scope `offline_access`.
fn tokens(state: &IssuerState, sign_ins: &mut SignInState, grant: Grant) -> Result<Value, Refusal> {
    let internal = |_| (StatusCode::INTERNAL_SERVER_ERROR, "server_error");
    let mut access = token_of(&grant);
    access.claims.insert("scope".to_owned(), json!(grant.scope));
    access.claims.insert("jti".to_owned(), json!(random()));
    let mut id = token_of(&grant);
    id.claims.insert("nonce".to_owned(), json!(grant.nonce));
    id.claims
        .insert("auth_time".to_owned(), json!(grant.auth_time));
    let access = state.sign(&access).map_err(internal)?;
    let mut tokens = json!({
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": ACCESS_SECONDS,
        "scope": grant.scope,
        "id_token": state.sign(&id).map_err(internal)?,
    });
    if grant
        .scope
        .split(' ')
        .any(|scope| scope == "offline_access")
    {
        let refresh = random();
        tokens["refresh_token"] = refresh.as_str().into();
        sign_ins.refresh_tokens.insert(refresh, grant.clone());
    }
    sign_ins.access_tokens.insert(access, grant);
    Ok(tokens)
}

pub(super) async fn userinfo(
    State(state): State<Arc<IssuerState>>,
    headers: HeaderMap,
) -> Response {
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
        .unwrap_or_default();
    let Some(grant) = state.sign_ins.state().access_tokens.get(token).cloned() else {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"invalid_token\"")];
        return (StatusCode::UNAUTHORIZED, challenge).into_response();
    };
    let spec = token_of(&grant);
    let mut claims = json!({
        "sub": spec.subject,
        "email": spec.email,
        "name": spec.name,
        "groups": spec.groups,
    });
    if let Some(claims) = claims.as_object_mut() {
        claims.retain(|_, value| !value.is_null());
    }
    Json(claims).into_response()
}
