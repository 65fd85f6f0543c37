//! Simulator of Authentik 2026.x: groups, users, passwords, memberships, sessions and OAuth tokens over its REST API,
//! with the quirks that a client has to handle.
//!
//! - Every path ends in a slash; without it the response is 404.
//! - Unknown query parameters and unknown members of a body are ignored silently.
//! - A filter that names a missing object returns 400, as does a duplicate name; an invalid token returns 403.
//! - `PATCH` replaces `attributes`, `groups` and `users` entirely. `PUT` is not simulated: clients must not use it.
//! - The list of MFA devices is a bare list without owners; without a user filter it contains the devices of all
//!   users, and it omits the types that the account may not view.
//! - Deactivating a user deletes the user's sessions and OAuth tokens; app passwords stay. Deleting a session deletes its
//!   access tokens, but no refresh token.

mod apps;
mod devices;
mod groups;
mod passwords;
mod routes;
mod sessions;
mod setup;
mod state;
mod users;
mod wire;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use axum::{
    extract::{Request, State as Shared},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use dezky_upstreams::clients::simulated;
use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub(crate) use self::apps::challenge_of;
pub use self::apps::{
    AppProfile, Application, Apps, Binding, OAuthProvider, Opening, References, SESSION_COOKIE,
};
pub use self::passwords::SignInRefused;
pub use self::setup::{Provider, Setup};
pub use self::state::{ApiToken, Device, Group, OAuthToken, RecoveryLink, Session, State, User};
use self::{routes::router, wire::Refusal};
use crate::{
    effects::Effects,
    server::{Classified, Server},
};

/// A running Authentik simulator.
#[derive(Debug)]
pub struct AuthentikSim {
    /// HTTP server, with faults and effects.
    pub server: Server,
    state: Arc<Mutex<State>>,
}

impl AuthentikSim {
    /// The token that is valid from the start.
    pub const TOKEN: &str = simulated::AUTHENTIK_TOKEN;

    /// Serves an Authentik without groups and users.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let effects = Effects::default();
        let state = Arc::new(Mutex::new(State::new(Self::TOKEN)));
        let sim = Sim {
            state: state.clone(),
            effects: effects.clone(),
        };
        let server = Server::start(address, router(sim), classify, effects).await?;
        Ok(Self { server, state })
    }

    /// Value for `AUTHENTIK_API_URL`.
    pub fn api_url(&self) -> String {
        format!("{}/api/v3", self.server.url)
    }

    /// Replaces the valid token.
    pub fn accept_token(&self, token: &str) {
        self.state().token = Some(token.to_owned());
    }

    /// Revokes the token.
    pub fn revoke_token(&self) {
        self.state().token = None;
    }

    /// Ignores every filter from now on.
    pub fn ignore_filters(&self) {
        self.state().ignores_filters = true;
    }

    /// Sets whether a recovery flow exists. Off by default, as in a fresh installation.
    pub fn set_recovery_flow(&self, has_recovery_flow: bool) {
        self.state().has_recovery_flow = has_recovery_flow;
    }

    /// All groups, by name.
    pub fn groups(&self) -> Vec<Group> {
        let mut groups: Vec<Group> = self.state().groups.values().cloned().collect();
        groups.sort_by(|a, b| a.name.cmp(&b.name));
        groups
    }

    /// All users, by username.
    pub fn users(&self) -> Vec<User> {
        let mut users: Vec<User> = self.state().users.values().cloned().collect();
        users.sort_by(|a, b| a.username.cmp(&b.username));
        users
    }

    /// Finds a group by name.
    pub fn group_named(&self, name: &str) -> Option<Group> {
        let state = self.state();
        state
            .groups
            .values()
            .find(|group| group.name == name)
            .cloned()
    }

    /// Finds a user by username.
    pub fn user_named(&self, username: &str) -> Option<User> {
        let state = self.state();
        state
            .users
            .values()
            .find(|user| user.username == username)
            .cloned()
    }

    /// Members of a group, by username.
    pub fn members(&self, group: Uuid) -> Vec<String> {
        let users = self.users().into_iter();
        let members = users.filter(|user| user.groups.contains(&group));
        members.map(|user| user.username).collect()
    }

    /// Number of the user's sessions, refresh tokens and access tokens.
    pub fn signed_in_with(&self, user: i64) -> usize {
        let state = self.state();
        let sessions = state.sessions.values().filter(|it| it.user == user).count();
        let refresh = state.refresh_tokens.values().filter(|it| it.user == user);
        let access = state.access_tokens.values().filter(|it| it.user == user);
        sessions + refresh.count() + access.count()
    }

    /// Adds a group with these attributes (an object).
    pub fn add_group(&self, name: &str, attributes: &Value) -> Group {
        let group = Group::new(name, attributes.as_object().cloned().unwrap_or_default());
        self.state().groups.insert(group.id, group.clone());
        group
    }

    /// Adds an active user as a member of these groups.
    pub fn add_user(&self, username: &str, groups: &[Uuid]) -> User {
        let mut state = self.state();
        let mut user = User::new(state.next_number(), username);
        user.groups.extend(groups);
        state.users.insert(user.pk, user.clone());
        user
    }

    /// Adds an active user whose tokens carry `subject`, a UUID.
    pub fn add_known_user(&self, username: &str, subject: &str) {
        let user = self.add_user(username, &[]);
        let uuid = subject.parse().unwrap_or(user.uuid);
        self.change(|state| state.users.insert(user.pk, User { uuid, ..user }));
    }

    /// Adds a session of the user.
    pub fn add_session(&self, user: i64) -> Uuid {
        let id = Uuid::now_v7();
        let mut state = self.state();
        state.sessions.insert(id, Session { user });
        if let Some(user) = state.users.get_mut(&user) {
            user.last_login = Some(state::now());
        }
        id
    }

    /// Adds an MFA device of this type, such as `TOTPDevice`.
    pub fn add_device(&self, user: i64, r#type: &str, confirmed: bool) {
        let mut state = self.state();
        let pk = state.next_number();
        let device = Device {
            user,
            r#type: r#type.to_owned(),
            confirmed,
            created: state::now(),
        };
        state.devices.insert(pk, device);
    }

    /// The user's valid recovery link, if any.
    pub fn recovery_link(&self, user: i64) -> Option<RecoveryLink> {
        self.state().recovery_links.get(&user).cloned()
    }

    /// Types of the user's MFA devices, oldest first.
    pub fn devices(&self, user: i64) -> Vec<String> {
        let state = self.state();
        let devices = state.devices.values().filter(|device| device.user == user);
        devices.map(|device| device.r#type.clone()).collect()
    }

    /// Takes a permission from the token's account, as an administrator would.
    pub fn withhold(&self, permission: &str) {
        self.state().setup.permissions.remove(permission);
    }

    /// The writes so far that left an attached application open to every user. Changes that bypass the API do not count.
    pub fn openings(&self) -> Vec<Opening> {
        self.state().openings()
    }

    /// Issuer of an application, with a trailing slash.
    pub fn issuer_of(&self, application: &str) -> String {
        format!("{}/application/o/{application}/", self.server.url)
    }

    /// The client secret of the provider with this client id.
    pub fn client_secret(&self, client_id: &str) -> Option<String> {
        let state = self.state();
        let provider = state.apps.provider_of(client_id)?;
        Some(provider.text("client_secret").to_owned())
    }

    /// Changes the state directly, bypassing the API, as an administrator would.
    pub fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        change(&mut self.state())
    }

    /// The whole state, without secrets.
    pub fn snapshot(&self) -> Value {
        let groups: Map<String, Value> = self
            .groups()
            .into_iter()
            .map(|group| {
                let members = self.members(group.id);
                let mut shown = json!(group);
                shown["members"] = members.into();
                (group.name, shown)
            })
            .collect();
        let users = self.users();
        let state = self.state();
        json!({
            "groups": groups,
            "users": users,
            "applications": Apps::snapshot(&state),
            "providers": state.apps.providers_snapshot(),
            "sessions": state.sessions,
            "refreshTokens": state.refresh_tokens,
            "accessTokens": state.access_tokens,
            "apiTokens": state.api_tokens.values().collect::<Vec<_>>(),
            "devices": state.devices,
            "recoveryLinks": state.recovery_links.keys().collect::<Vec<_>>(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// State shared by the handlers.
#[derive(Debug, Clone)]
struct Sim {
    state: Arc<Mutex<State>>,
    effects: Effects,
}

impl Sim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// 403 rather than 401: only the text distinguishes it from a missing permission.
async fn authenticate(Shared(sim): Shared<Sim>, request: Request, next: Next) -> Response {
    let header = request.headers().get(header::AUTHORIZATION);
    let presented = header.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let detail = match presented {
        None => "Authentication credentials were not provided.",
        Some(token) if sim.state().token.as_deref() == Some(token) => {
            return next.run(request).await;
        }
        Some(_) => "Token invalid/expired",
    };
    Refusal::detail(StatusCode::FORBIDDEN, detail).into_response()
}

fn classify(method: &Method, path: &str, _: &http::HeaderMap, body: &[u8]) -> Classified {
    let path = path.strip_prefix("/api/v3/").unwrap_or(path);
    let path: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let operation = match (method.as_str(), path.as_slice()) {
        ("GET", ["core", "users", "me"]) => "check_credentials",
        ("GET", ["admin", "version"]) => "get_version",
        ("GET", ["rbac", "permissions"]) => "list_permissions",
        ("GET", ["core", "brands", "current"]) => "get_brand",
        (
            _,
            ["core", "applications", ..]
            | ["providers", "oauth2", ..]
            | ["policies", "bindings", ..],
        ) => apps::operation(method, &path, body),
        ("GET", ["flows", "instances"]) => "list_flows",
        ("GET", ["crypto", "certificatekeypairs"]) => "list_key_pairs",
        ("GET", ["propertymappings", "provider", "scope"]) => "list_scope_mappings",
        ("GET", ["", "application", "o", _, ".well-known", _]) => "get_discovery",
        (_, ["", "application", ..]) => "oidc",
        ("GET", ["core", "groups"]) => "list_groups",
        ("POST", ["core", "groups"]) => "create_group",
        ("GET", ["core", "groups", _]) => "get_group",
        ("PATCH", ["core", "groups", _]) => "update_group",
        ("DELETE", ["core", "groups", _]) => "delete_group",
        ("POST", ["core", "groups", _, "add_user"]) => "add_member",
        ("POST", ["core", "groups", _, "remove_user"]) => "remove_member",
        ("GET", ["core", "users"]) => "list_users",
        ("POST", ["core", "users"]) => "create_user",
        ("GET", ["core", "users", _]) => "get_user",
        ("PATCH", ["core", "users", _]) => {
            let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
            users::kind_of_update(&body)
        }
        ("DELETE", ["core", "users", _]) => "delete_user",
        ("POST", ["core", "users", _, "recovery"]) => "create_recovery_link",
        ("POST", ["core", "users", _, "set_password"]) => "set_password",
        ("GET", ["authenticators", "admin", "all"]) => "list_devices",
        ("GET", ["authenticators", "admin", _, _]) => "get_device",
        ("DELETE", ["authenticators", "admin", _, _]) => "delete_device",
        ("GET", ["core", "authenticated_sessions"]) => "list_sessions",
        ("DELETE", ["core", "authenticated_sessions", _]) => "delete_session",
        ("GET", ["core", "tokens"]) => "list_app_passwords",
        ("DELETE", ["core", "tokens", _]) => "delete_app_password",
        ("GET", ["oauth2", "refresh_tokens"]) => "list_refresh_tokens",
        ("DELETE", ["oauth2", "refresh_tokens", _]) => "delete_refresh_token",
        ("GET", ["oauth2", "access_tokens"]) => "list_access_tokens",
        ("DELETE", ["oauth2", "access_tokens", _]) => "delete_access_token",
        ("GET", ["", "-", "health", _]) => "probe",
        _ => "unknown",
    };
    let write = *method != Method::GET && operation != "oidc";
    Classified { operation, write }
}
