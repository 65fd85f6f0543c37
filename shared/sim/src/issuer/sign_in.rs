//! Sign-in: authorization code with PKCE, refresh tokens, userinfo and sign-out, for portals in development.
//!
//! The authorization page is a picker: of the callers that `cargo dev token` knows, or of any person. A cookie keeps the
//! choice, as the session of a real issuer does.

mod authorize;
mod end_session;
mod request;
mod tokens;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use rand::distr::{Alphanumeric, SampleString as _};
use serde_json::{Value, json};

use super::{IssuerState, TokenSpec};

/// Secret of every confidential client.
pub const CLIENT_SECRET: &str = "simulated-client-secret";
/// Cookie of a session.
const SESSION_COOKIE: &str = "dezky_issuer_session";
/// Validity of an access token in seconds, as Authentik's default: portals have to refresh it.
const ACCESS_SECONDS: i64 = 300;
/// Validity of an authorization code in seconds.
const CODE_SECONDS: i64 = 60;

/// A person who signed in.
#[derive(Debug, Clone, PartialEq)]
struct Person {
    subject: String,
    email: Option<String>,
    name: Option<String>,
    groups: Option<Vec<String>>,
}

/// Grant that a code or a refresh token stands for.
#[derive(Debug, Clone)]
struct Grant {
    application: String,
    person: Person,
    scope: String,
    nonce: Option<String>,
    /// Session that it belongs to: it ends with the session.
    session: String,
    auth_time: i64,
}

/// An authorization code.
#[derive(Debug)]
struct Code {
    grant: Grant,
    redirect_uri: String,
    /// PKCE challenge, by the method S256.
    challenge: String,
    expires_at: i64,
}

/// Codes, tokens and sessions.
#[derive(Debug, Default)]
pub(super) struct SignIns {
    state: Mutex<SignInState>,
}

#[derive(Debug, Default)]
struct SignInState {
    codes: BTreeMap<String, Code>,
    sessions: BTreeMap<String, (Person, i64)>,
    refresh_tokens: BTreeMap<String, Grant>,
    /// Refresh tokens that were used, by their sessions: using one again revokes all of the session.
    used: BTreeMap<String, String>,
    access_tokens: BTreeMap<String, Grant>,
}

impl SignIns {
    fn state(&self) -> MutexGuard<'_, SignInState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SignInState {
    /// Ends a session, its codes and its tokens.
    fn end(&mut self, session: &str) {
        self.sessions.remove(session);
        self.codes.retain(|_, code| code.grant.session != session);
        let is_other = |_: &String, grant: &mut Grant| grant.session != session;
        self.refresh_tokens.retain(is_other);
        self.access_tokens.retain(is_other);
        self.used.retain(|_, of| of != session);
    }
}

/// Routes of the sign-in.
pub(super) fn routes(router: Router<Arc<IssuerState>>) -> Router<Arc<IssuerState>> {
    router
        .route("/application/o/authorize/", get(authorize::authorize))
        .route("/application/o/token/", axum::routing::post(tokens::token))
        .route(
            "/application/o/userinfo/",
            get(tokens::userinfo).post(tokens::userinfo),
        )
        .route(
            "/application/o/{application}/end-session/",
            get(end_session::by_get).post(end_session::by_post),
        )
        .layer(from_fn(allow_origins))
}

/// Fields of the discovery document. `root` is the URL below which the endpoints are.
pub(super) fn metadata(issuer: &str, root: impl Fn(&str) -> String) -> Value {
    json!({
        "issuer": issuer,
        "jwks_uri": format!("{issuer}jwks/"),
        "authorization_endpoint": root("authorize"),
        "token_endpoint": root("token"),
        "userinfo_endpoint": root("userinfo"),
        "end_session_endpoint": format!("{issuer}end-session/"),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": ["authorization_code", "refresh_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256", "ES256", "EdDSA"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post", "none"],
        "code_challenge_methods_supported": ["S256"],
        "scopes_supported": ["openid", "email", "profile", "offline_access"],
        "claims_supported": ["sub", "iss", "aud", "exp", "iat", "auth_time", "nonce", "email", "name", "groups"],
        "prompt_values_supported": ["none", "login", "select_account"],
        "authorization_response_iss_parameter_supported": true,
    })
}

/// Lets portals in a browser call the endpoints from any origin. Cookies are not sent along.
async fn allow_origins(request: Request, next: Next) -> Response {
    const HEADERS: [(HeaderName, &str); 3] = [
        (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "authorization, content-type",
        ),
    ];
    let mut response = if request.method() == Method::OPTIONS {
        StatusCode::NO_CONTENT.into_response()
    } else {
        next.run(request).await
    };
    for (name, value) in HEADERS {
        let value = HeaderValue::from_static(value);
        response.headers_mut().insert(name, value);
    }
    response
}

/// An unguessable value.
fn random() -> String {
    Alphanumeric.sample_string(&mut rand::rng(), 43)
}

/// The token of a grant, with the claims of its scopes.
fn token_of(grant: &Grant) -> TokenSpec {
    let scopes: BTreeSet<&str> = grant.scope.split(' ').collect();
    let person = grant.person.clone();
    let of_profile = scopes.contains("profile");
    TokenSpec {
        application: grant.application.clone(),
        subject: person.subject,
        groups: person.groups.filter(|_| of_profile),
        name: person.name.filter(|_| of_profile),
        email: person.email.filter(|_| scopes.contains("email")),
        expires_in: ACCESS_SECONDS,
        ..TokenSpec::default()
    }
}
