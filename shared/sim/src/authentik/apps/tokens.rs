//! Token and userinfo endpoints. A token error names no cause, as in a real installation.

use axum::{
    Json,
    extract::State as Shared,
    response::{IntoResponse as _, Response},
};
use base64::{Engine as _, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use dezky_shared::platform::clock;
use http::{HeaderMap, StatusCode, header};
use rand::distr::{Alphanumeric, SampleString as _};
use reqwest::Url;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Apps, OAuthProvider, oidc};
use crate::authentik::{Sim, State, User};

/// Validity of access tokens in seconds, whatever the provider says.
const EXPIRES_IN: i64 = 300;

/// A token that was issued.
#[derive(Debug, Clone)]
pub(super) struct Issued {
    provider: i64,
    user: i64,
    session: Uuid,
    scope: String,
    is_refresh: bool,
}

/// The form of a token request.
struct Form(Vec<(String, String)>);

impl Form {
    /// The parsed body, with client credentials from the header where the body has none.
    fn of(headers: &HeaderMap, body: &str) -> Self {
        let parsed = Url::parse(&format!("http://form/?{body}"));
        let mut form = Self(parsed.map_or_else(
            |_| Vec::new(),
            |url| url.query_pairs().into_owned().collect(),
        ));
        let basic = headers
            .get(header::AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Basic "))
            .and_then(|value| BASE64_STANDARD.decode(value).ok())
            .and_then(|value| String::from_utf8(value).ok());
        if let Some((id, secret)) = basic.as_deref().and_then(|it| it.split_once(':')) {
            form.0.push(("client_id".to_owned(), id.to_owned()));
            form.0.push(("client_secret".to_owned(), secret.to_owned()));
        }
        form
    }

    fn get(&self, name: &str) -> &str {
        let found = self.0.iter().find(|(key, _)| key == name);
        found.map_or("", |(_, value)| value)
    }
}

/// Authorization grant.
struct Grant {
    user: i64,
    session: Uuid,
    scope: String,
    nonce: Option<String>,
}

pub(in crate::authentik) async fn token(
    Shared(sim): Shared<Sim>,
    headers: HeaderMap,
    body: String,
) -> Response {
    let form = Form::of(&headers, &body);
    let mut state = sim.state();
    let Some(provider) = state.apps.provider_of(form.get("client_id")).cloned() else {
        return refused("invalid_client");
    };
    let is_confidential = provider.text("client_type") == "confidential";
    if is_confidential && provider.text("client_secret") != form.get("client_secret") {
        return refused("invalid_grant");
    }
    let grant_type = form.get("grant_type");
    if !provider.lists("grant_types", grant_type) {
        return refused("invalid_grant");
    }
    let grant = match grant_type {
        "authorization_code" => by_code(&mut state, &provider, &form),
        "refresh_token" => by_refresh_token(&mut state, &provider, &form),
        _ => None,
    };
    // Checked again: access may have ended since the code was issued.
    let issued =
        grant.and_then(|grant| issue(&mut state, &provider, &grant, &oidc::root(&headers)));
    issued.map_or_else(
        || refused("invalid_grant"),
        |tokens| Json(tokens).into_response(),
    )
}

pub(in crate::authentik) async fn userinfo(
    Shared(sim): Shared<Sim>,
    headers: HeaderMap,
) -> Response {
    let state = sim.state();
    let token = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let issued = token.and_then(|token| state.apps.tokens.get(token));
    let claims = issued
        .filter(|issued| !issued.is_refresh)
        .and_then(|issued| {
            let user = state
                .users
                .get(&issued.user)
                .filter(|user| user.is_active)?;
            state.sessions.get(&issued.session)?;
            let provider = state.apps.providers.get(&issued.provider)?;
            Some(user_claims(&state, provider, user, &issued.scope))
        });
    claims.map_or_else(
        || {
            let challenge = "error=\"invalid_token\", error_description=\"The access token provided is expired, revoked, malformed, or invalid for other reasons\"";
            (StatusCode::UNAUTHORIZED, [(header::WWW_AUTHENTICATE, challenge)]).into_response()
        },
        |claims| Json(claims).into_response(),
    )
}

impl Apps {
    /// Ends the codes and tokens of a provider.
    pub(super) fn end_tokens(&mut self, provider: i64) {
        self.codes.retain(|_, code| code.provider != provider);
        self.tokens.retain(|_, token| token.provider != provider);
    }

    /// Ends the codes and tokens of a user.
    pub(in crate::authentik) fn sign_out(&mut self, user: i64) {
        self.codes.retain(|_, code| code.user != user);
        self.tokens.retain(|_, token| token.user != user);
    }
}

/// A code is redeemed once.
fn by_code(state: &mut State, provider: &OAuthProvider, form: &Form) -> Option<Grant> {
    let code = state.apps.codes.remove(form.get("code"))?;
    let is_verified = match &code.challenge {
        None => true,
        Some((challenge, method)) => {
            let verifier = form.get("code_verifier");
            match method.as_str() {
                "S256" => *challenge == challenge_of(verifier),
                _ => challenge == verifier,
            }
        }
    };
    let is_same = code.provider == provider.pk && code.redirect_uri == form.get("redirect_uri");
    (is_verified && is_same).then_some(Grant {
        user: code.user,
        session: code.session,
        scope: code.scope,
        nonce: code.nonce,
    })
}

/// A refresh token is replaced when it is used. It survives the end of its session.
fn by_refresh_token(state: &mut State, provider: &OAuthProvider, form: &Form) -> Option<Grant> {
    let token = form.get("refresh_token");
    let issued = state.apps.tokens.get(token)?.clone();
    if !issued.is_refresh || issued.provider != provider.pk {
        return None;
    }
    state.apps.tokens.remove(token);
    Some(Grant {
        user: issued.user,
        session: issued.session,
        scope: issued.scope,
        nonce: None,
    })
}

fn issue(state: &mut State, provider: &OAuthProvider, grant: &Grant, root: &str) -> Option<Value> {
    let (slug, application) = state.apps.application_of(provider.pk)?;
    let user = state.users.get(&grant.user)?;
    if !state.admits(application, user) {
        return None;
    }
    let scope = granted(state, provider, &grant.scope);
    let now = clock::now().timestamp_millis() / 1000;
    let client_id = provider.text("client_id");
    let mut claims = user_claims(state, provider, user, &scope);
    claims["iss"] = format!("{root}{slug}/").into();
    claims["aud"] = client_id.into();
    claims["iat"] = now.into();
    claims["exp"] = (now + EXPIRES_IN).into();
    claims["auth_time"] = now.into();
    let mut id_claims = claims.clone();
    if let Some(nonce) = &grant.nonce {
        id_claims["nonce"] = nonce.as_str().into();
    }
    claims["azp"] = client_id.into();
    claims["scope"] = scope.as_str().into();
    claims["uid"] = Alphanumeric.sample_string(&mut rand::rng(), 20).into();
    let signer = &state.apps.signer;
    let access_token = signer.sign(&claims).ok()?;
    let mut tokens = json!({
        "access_token": access_token,
        "token_type": "Bearer",
        "scope": scope,
        "expires_in": EXPIRES_IN,
        "id_token": signer.sign(&id_claims).ok()?,
    });
    let issued = Issued {
        provider: provider.pk,
        user: grant.user,
        session: grant.session,
        scope: scope.clone(),
        is_refresh: false,
    };
    let renews = scope.split(' ').any(|scope| scope == "offline_access");
    state.apps.tokens.insert(access_token, issued.clone());
    if renews && provider.lists("grant_types", "refresh_token") {
        let refresh = Alphanumeric.sample_string(&mut rand::rng(), 64);
        tokens["refresh_token"] = refresh.as_str().into();
        let is_refresh = true;
        state.apps.tokens.insert(
            refresh,
            Issued {
                is_refresh,
                ..issued
            },
        );
    }
    Some(tokens)
}

/// The requested scopes for which the provider has a mapping.
fn granted(state: &State, provider: &OAuthProvider, requested: &str) -> String {
    let known = state.apps.references.scopes(provider.mappings());
    let granted = requested.split(' ').filter(|scope| known.contains(scope));
    granted.collect::<Vec<_>>().join(" ")
}

fn user_claims(state: &State, provider: &OAuthProvider, user: &User, scope: &str) -> Value {
    let subject = match provider.text("sub_mode") {
        "user_uuid" => user.uuid.to_string(),
        _ => format!("hashed-{}", user.pk),
    };
    let mut claims = json!({ "sub": subject });
    for scope in scope.split(' ') {
        match scope {
            "email" => {
                claims["email"] = user.email.as_str().into();
                claims["email_verified"] = false.into();
            }
            "profile" => {
                claims["name"] = user.name.as_str().into();
                claims["preferred_username"] = user.username.as_str().into();
                claims["groups"] = groups_told(state, provider, user).into();
            }
            _ => {}
        }
    }
    claims
}

/// The claim `groups`: of the built-in mapping all of the user's groups, and of that of apps those that the application is
/// bound to. With both, the lists are appended to each other.
fn groups_told<'a>(state: &'a State, provider: &OAuthProvider, user: &User) -> Vec<&'a str> {
    let (has_built_in, is_of_app) = state.apps.references.profiles(provider.mappings());
    let named = |is_told: &dyn Fn(&Uuid) -> bool| {
        let told = user.groups.iter().filter(|id| is_told(id));
        let groups = told.filter_map(|id| state.groups.get(id));
        groups.map(|group| group.name.as_str()).collect::<Vec<_>>()
    };
    let mut groups = Vec::new();
    if has_built_in {
        groups.extend(named(&|_| true));
    }
    if is_of_app {
        let application = state.apps.application_of(provider.pk);
        let bound: Vec<Uuid> = application
            .into_iter()
            .flat_map(|(_, application)| state.apps.bindings_of(application.pk))
            .filter(|binding| binding.enabled && !binding.negate)
            .filter_map(|binding| binding.group)
            .collect();
        groups.extend(named(&|id| bound.contains(id)));
    }
    groups
}

/// PKCE challenge of a verifier by the method `S256` (RFC 7636).
pub(crate) fn challenge_of(verifier: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, verifier.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(digest)
}

fn refused(error: &str) -> Response {
    let description = match error {
        "invalid_client" => {
            "Client authentication failed (e.g., unknown client, no client authentication included, or unsupported authentication method)"
        }
        _ => {
            "The provided authorization grant or refresh token is invalid, expired, revoked, does not match the redirection URI used in the authorization request, or was issued to another client"
        }
    };
    let body = json!({
        "error": error,
        "error_description": description,
        "request_id": Uuid::new_v4().simple().to_string(),
    });
    (StatusCode::BAD_REQUEST, Json(body)).into_response()
}
