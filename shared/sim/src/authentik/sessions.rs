//! Sessions, refresh tokens, access tokens and app passwords of users.

use std::collections::BTreeMap;

use axum::{
    extract::{Path, Query, State as Shared},
    response::Response,
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ApiToken, AuthentikSim, OAuthToken, Sim, State, users,
    wire::{Params, Refusal, first, page},
};

/// Primary key of the portal's provider, which is not among the apps.
pub(super) const PORTAL: i64 = 17;

/// Expiry of every session and token.
const EXPIRES: &str = "2099-01-01T00:00:00.000000Z";

/// Filters by `user__username`; `user` is ignored.
pub(super) async fn list(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    let username = first(&params, "user__username").filter(|_| !state.ignores_filters);
    let sessions: Vec<_> = state
        .sessions
        .iter()
        .filter(|_| state.may("authentik_core.view_authenticatedsession"))
        .filter(|(_, session)| {
            username.is_none_or(|username| state.users[&session.user].username == username)
        })
        .collect();
    page(&params, &sessions, |(id, session)| {
        json!({
            "uuid": id,
            "current": false,
            "user_agent": {
                "device": { "brand": null, "family": "Other", "model": null },
                "os": { "family": "Linux", "major": null, "minor": null, "patch": null, "patch_minor": null },
                "user_agent": { "family": "Firefox", "major": "143", "minor": "0", "patch": "" },
                "string": "Mozilla/5.0",
            },
            "geo_ip": null,
            "asn": null,
            "user": session.user,
            "last_ip": "192.0.2.10",
            "last_user_agent": "Mozilla/5.0",
            "last_used": state.users[&session.user].date_joined,
            "expires": EXPIRES,
        })
    })
}

/// Deletes the session and its access tokens; refresh tokens stay.
pub(super) async fn remove(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let mut state = sim.state();
    let id = id.parse::<Uuid>().ok();
    let id = id.filter(|id| state.sessions.remove(id).is_some());
    let id = id.ok_or_else(|| Refusal::missing("AuthenticatedSession"))?;
    state
        .access_tokens
        .retain(|_, token| token.session != Some(id));
    sim.effects.record("delete_session", id);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list_refresh_tokens(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    list_tokens(&state, &state.refresh_tokens, &params)
}

pub(super) async fn list_access_tokens(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    list_tokens(&state, &state.access_tokens, &params)
}

pub(super) async fn remove_refresh_token(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
) -> Result<StatusCode, Refusal> {
    remove_token(&mut sim.state().refresh_tokens, &pk, "RefreshToken")?;
    sim.effects.record("delete_refresh_token", pk);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove_access_token(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
) -> Result<StatusCode, Refusal> {
    remove_token(&mut sim.state().access_tokens, &pk, "AccessToken")?;
    sim.effects.record("delete_access_token", pk);
    Ok(StatusCode::NO_CONTENT)
}

/// Filters by `user__username`, `intent` and `identifier`; `user` is ignored. Without the permission, an account sees its
/// own tokens alone, of which there are none here.
pub(super) async fn list_api_tokens(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    let filter = |name: &str| first(&params, name).filter(|_| !state.ignores_filters);
    let (username, intent) = (filter("user__username"), filter("intent"));
    let identifier = filter("identifier");
    let tokens: Vec<_> = state
        .api_tokens
        .iter()
        .filter(|_| state.may("authentik_core.view_token"))
        .filter(|(_, token)| username.is_none_or(|name| state.users[&token.user].username == name))
        .filter(|(_, token)| intent.is_none_or(|intent| token.intent == intent))
        .filter(|(id, _)| identifier.is_none_or(|wanted| *id == wanted))
        .collect();
    page(&params, &tokens, |(id, token)| {
        json!({
            "pk": Uuid::nil(),
            "managed": null,
            "identifier": id,
            "intent": token.intent,
            "user": token.user,
            "user_obj": users::view(&state, &state.users[&token.user], &Params::new()),
            "description": "",
            "expires": EXPIRES,
            "expiring": true,
        })
    })
}

pub(super) async fn remove_api_token(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    sim.require("authentik_core.delete_token")?;
    let token = sim.state().api_tokens.remove(&id);
    token.ok_or_else(|| Refusal::missing("Token"))?;
    sim.effects.record("delete_app_password", id);
    Ok(StatusCode::NO_CONTENT)
}

/// Filters by `user`.
fn list_tokens(
    state: &State,
    tokens: &BTreeMap<i64, OAuthToken>,
    params: &Params,
) -> Result<Response, Refusal> {
    let mut user = None;
    if let Some(choice) = first(params, "user").filter(|_| !state.ignores_filters) {
        let pk = choice.parse().ok();
        user = pk.filter(|pk| state.users.contains_key(pk));
        if user.is_none() {
            return Err(Refusal::no_choice("user", "That choice"));
        }
    }
    let tokens: Vec<_> = tokens
        .iter()
        .filter(|(_, token)| user.is_none_or(|user| token.user == user))
        .collect();
    page(params, &tokens, |(pk, token)| {
        token_view(state, **pk, token)
    })
}

fn remove_token(
    tokens: &mut BTreeMap<i64, OAuthToken>,
    pk: &str,
    model: &str,
) -> Result<(), Refusal> {
    let token = pk.parse().ok().and_then(|pk: i64| tokens.remove(&pk));
    token.map(|_| ()).ok_or_else(|| Refusal::missing(model))
}

/// Response body of a token, without the token itself.
fn token_view(state: &State, pk: i64, token: &OAuthToken) -> Value {
    json!({
        "pk": pk,
        "provider": { "pk": token.provider, "name": "portal", "assigned_application_slug": "portal" },
        "user": users::view(state, &state.users[&token.user], &Params::new()),
        "is_expired": false,
        "expires": EXPIRES,
        "scope": ["openid", "email", "profile"],
        "id_token": "{}",
        "revoked": false,
    })
}

impl AuthentikSim {
    /// Adds a refresh token of the user for the portal.
    pub fn add_refresh_token(&self, user: i64) -> i64 {
        self.add_refresh_token_of(user, PORTAL)
    }

    /// Adds a refresh token of the user that this provider issued.
    pub fn add_refresh_token_of(&self, user: i64, provider: i64) -> i64 {
        let mut state = self.state();
        let pk = state.next_number();
        let token = OAuthToken {
            user,
            session: None,
            provider,
        };
        state.refresh_tokens.insert(pk, token);
        pk
    }

    /// Adds an access token of the user for the portal, optionally bound to a session.
    pub fn add_access_token(&self, user: i64, session: Option<Uuid>) -> i64 {
        let mut state = self.state();
        let pk = state.next_number();
        let token = OAuthToken {
            user,
            session,
            provider: PORTAL,
        };
        state.access_tokens.insert(pk, token);
        pk
    }

    /// Adds a token of the user with the intent `api` or `app_password`.
    pub fn add_api_token(&self, user: i64, intent: &'static str) -> String {
        let mut state = self.state();
        let identifier = format!("token-{}", state.next_number());
        let token = ApiToken { user, intent };
        state.api_tokens.insert(identifier.clone(), token);
        identifier
    }

    /// Number of the user's app passwords.
    pub fn app_passwords(&self, user: i64) -> usize {
        let state = self.state();
        let tokens = state.api_tokens.values();
        tokens
            .filter(|token| token.user == user && token.intent == "app_password")
            .count()
    }
}
