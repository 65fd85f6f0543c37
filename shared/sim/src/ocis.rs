//! Simulator of oCIS: project spaces, users and groups behind the graph API.
//!
//! Its limitations matter most: names and aliases of spaces are not unique, filters by them are ignored, members may
//! change the alias of their space, and objects that the account may not see return 404.

mod groups;
mod logins;
mod members;
mod people;
mod responses;
mod space_view;
mod spaces;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{Request, State as Held},
    middleware::{self, Next},
    response::Response,
    routing::{get, patch, post},
};
use dezky_upstreams::clients::simulated;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use uuid::Uuid;

use self::{
    logins::Logins,
    people::{Group, People},
};
pub use self::{
    members::{Grant, Role},
    people::AppRole,
    spaces::SimSpace,
};
use crate::{
    effects::Effects,
    server::{Classified, Server},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A running oCIS simulator, with a small token endpoint.
#[derive(Debug)]
pub struct OcisSim {
    /// HTTP server, with faults and effects.
    pub server: Server,
    shared: Shared,
}

/// State shared by the handlers.
#[derive(Debug, Clone)]
struct Shared {
    state: Arc<Mutex<State>>,
    effects: Effects,
    /// Held while a password or an app token is checked, which the server does one at a time.
    authenticating: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug)]
struct State {
    spaces: Vec<SimSpace>,
    people: People,
    logins: Logins,
    requests: u64,
    /// Release, as `/status.php` shows it.
    version: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OcisSim {
    /// The service account.
    pub const USER: &str = "svc-dezky";
    /// App token of the service account.
    pub const PASSWORD: &str = simulated::OCIS_PASSWORD;
    /// Client id at the token endpoint.
    pub const OIDC_CLIENT_ID: &str = "ocis";
    /// App password of the service account at the token endpoint.
    pub const OIDC_PASSWORD: &str = simulated::OCIS_OIDC_PASSWORD;

    /// Serves an oCIS that contains only the service account.
    pub async fn start(address: SocketAddr) -> io::Result<Self> {
        let effects = Effects::default();
        let people = People::with_service_account();
        let shared = Shared {
            state: Arc::new(Mutex::new(State {
                spaces: SimSpace::of_a_new_account(&people.service_account, Self::USER),
                people,
                logins: Logins::default(),
                requests: 0,
                version: "8.0.5".to_owned(),
            })),
            effects: effects.clone(),
            authenticating: Arc::default(),
        };
        let server = Server::start(address, router(shared.clone()), classify, effects).await?;
        Ok(Self { server, shared })
    }

    /// URL of the token endpoint.
    pub fn token_url(&self) -> String {
        format!("{}/sim-idp/token", self.server.url)
    }

    /// Sets whether every request gets 401.
    pub fn reject_credentials(&self, reject: bool) {
        self.shared.lock().logins.reject_all = reject;
    }

    /// Sets whether oCIS can reach its identity provider. While it cannot, tokens not verified before get 401. For a
    /// token endpoint that fails as well, add a fault to `fetch_token`.
    pub fn idp_down(&self, down: bool) {
        self.shared.lock().logins.idp_down = down;
    }

    /// Sets whether the token endpoint refuses the control plane's client.
    pub fn refuse_client(&self, refuse: bool) {
        self.shared.lock().logins.refuse_client = refuse;
    }

    /// Expires all access tokens.
    pub fn expire_tokens(&self) {
        self.shared.lock().logins.expire_all();
    }

    /// Sets the lifetime of new access tokens.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.shared.lock().logins.lifetime = lifetime;
    }

    /// Sets whether the service account is a plain user without memberships instead of an administrator.
    pub fn demote(&self, demoted: bool) {
        let role = if demoted {
            AppRole::User
        } else {
            AppRole::Admin
        };
        self.set_role(role);
    }

    /// Sets the server role of the service account. As a plain user it is a member of no space.
    pub fn set_role(&self, role: AppRole) {
        self.shared.lock().people.service_role = role;
    }

    /// Sets the time that the check of a password or an app token takes, 300 ms on a real server. Checks are made one
    /// at a time. Default: 0.
    pub fn set_authentication_time(&self, time: Duration) {
        self.shared.lock().logins.authentication_time = time;
    }

    /// Adds an account that may sign in with `name` and [`PASSWORD`](Self::PASSWORD). Returns its id.
    pub fn add_account(&self, name: &str) -> Uuid {
        self.shared.lock().people.add_account(name)
    }

    /// Adds an account as a member of a space. It signs in like one of [`add_account`](Self::add_account).
    pub fn add_member(&self, space: &str, name: &str, role: Role) -> Uuid {
        let account = self.add_account(name);
        self.edit_space(space, |space| {
            space.grants.push(Grant::user(account, name, role));
        });
        account
    }

    /// Signs an account in for the first time, which creates its personal space. Returns the space's id, `None` for an
    /// unknown or disabled account.
    pub fn sign_in(&self, name: &str) -> Option<String> {
        let mut state = self.shared.lock();
        let account = state.people.sign_in(name)?;
        let personal = SimSpace::personal_id(&account);
        if state.spaces.iter().all(|space| space.id != personal) {
            let spaces = SimSpace::of_a_new_account(&account, name);
            state.spaces.extend(spaces);
        }
        Some(personal)
    }

    /// Signs an account in with an access token of the identity provider, which is accepted from then on.
    pub fn sign_in_with(&self, token: &str, name: &str) {
        self.sign_in(name);
        self.shared.lock().logins.admit(token, name);
    }

    /// Names of the accounts other than the service account, oldest first.
    pub fn accounts(&self) -> Vec<String> {
        let mut names = self.shared.lock().people.usernames();
        names.retain(|name| name != Self::USER);
        names
    }

    /// Id of the account of this name.
    pub fn account(&self, name: &str) -> Option<Uuid> {
        self.shared.lock().people.id_named(name)
    }

    /// Whether the account of this name may sign in, with any credential.
    pub fn is_enabled(&self, name: &str) -> Option<bool> {
        self.shared.lock().people.is_enabled(name)
    }

    /// Lets the account of this name sign in or not, as an administrator would.
    pub fn set_enabled(&self, name: &str, enabled: bool) {
        self.shared.lock().people.set_enabled(name, enabled);
    }

    /// Accepts usernames of any form, which otherwise begin with a letter.
    pub fn accept_any_username(&self) {
        self.shared.lock().people.any_username = true;
    }

    /// Renames an account, as an administrator would.
    pub fn rename_account(&self, name: &str, to: &str) {
        self.shared.lock().people.rename(name, to);
    }

    /// Quota of a space in bytes; 0 is unlimited.
    pub fn quota(&self, space: &str) -> Option<i64> {
        let state = self.shared.lock();
        let mut spaces = state.spaces.iter();
        spaces.find(|it| it.id == space).map(|space| space.quota)
    }

    /// Sets the release.
    pub fn set_version(&self, version: &str) {
        version.clone_into(&mut self.shared.lock().version);
    }

    /// All project spaces, including trashed ones, by id.
    pub fn spaces(&self) -> Vec<SimSpace> {
        let mut spaces = self.shared.lock().spaces.clone();
        spaces.retain(|space| space.drive_type == "project");
        spaces.sort_by(|a, b| a.id.cmp(&b.id));
        spaces
    }

    /// Adds a project space that holds `used` bytes, created by the service account. Returns its id.
    pub fn add_space(&self, name: &str, alias: &str, used: i64) -> String {
        let mut state = self.shared.lock();
        let mut space = SimSpace::project(name, Some(state.people.service_grant()));
        alias.clone_into(&mut space.alias);
        space.used = used;
        let id = space.id.clone();
        state.spaces.push(space);
        id
    }

    /// Adds copies of a space with these names and aliases. Returns their ids.
    pub fn copy_space(
        &self,
        id: &str,
        copies: impl IntoIterator<Item = (String, String)>,
    ) -> Vec<String> {
        let mut state = self.shared.lock();
        let original = state.spaces.iter().find(|space| space.id == id).cloned();
        let original = original.expect("the space to copy exists");
        let copies = copies.into_iter().map(|(name, alias)| {
            let mut copy = original.clone();
            copy.id = SimSpace::project(&name, None).id;
            (copy.name, copy.alias) = (name, alias);
            copy
        });
        let copies: Vec<SimSpace> = copies.collect();
        let ids = copies.iter().map(|space| space.id.clone()).collect();
        state.spaces.extend(copies);
        ids
    }

    /// Removes a space directly, bypassing the API and its record of effects.
    pub fn remove_space(&self, id: &str) {
        self.shared.lock().spaces.retain(|space| space.id != id);
    }

    /// Edits a space directly, bypassing the API.
    pub fn edit_space(&self, id: &str, edit: impl FnOnce(&mut SimSpace)) {
        let mut state = self.shared.lock();
        // Usually the newest.
        let mut spaces = state.spaces.iter_mut().rev();
        let space = spaces.find(|space| space.id == id);
        edit(space.expect("the space to edit exists"));
    }

    /// The whole state, secrets masked.
    pub fn snapshot(&self) -> Value {
        let state = self.shared.lock();
        json!({
            "drives": state.spaces.iter().map(SimSpace::view).collect::<Vec<_>>(),
            "users": state.people.users(),
            "groups": state.people.groups.iter().map(Group::view).collect::<Vec<_>>(),
            "accessTokens": state.logins.snapshot(),
        })
    }
}

fn router(shared: Shared) -> Router {
    let graph = Router::new()
        .route("/me", get(people::me))
        .route("/me/drives", get(spaces::list_own))
        .route("/drives", get(spaces::list).post(spaces::create))
        .route(
            "/drives/{id}",
            get(spaces::find)
                .patch(spaces::update)
                .delete(spaces::delete),
        )
        .route("/users", get(people::list_users).post(people::create_user))
        .route(
            "/users/{id}",
            get(people::find_user)
                .patch(people::update_user)
                .delete(people::delete_user),
        )
        .route("/users/{id}/appRoleAssignments", get(people::list_roles))
        .route("/groups", post(groups::create))
        .route(
            "/groups/{id}",
            get(groups::find)
                .patch(groups::update)
                .delete(groups::delete),
        );
    Router::new()
        .nest("/graph/v1.0", graph)
        .route(
            "/graph/v1beta1/drives/{id}/root/permissions",
            get(members::list),
        )
        .route(
            "/graph/v1beta1/drives/{id}/root/permissions/{permission}",
            patch(members::update).delete(members::remove),
        )
        .route(
            "/graph/v1beta1/drives/{id}/root/invite",
            post(members::invite),
        )
        .fallback(|| async { responses::no_such_route() })
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            logins::authenticate,
        ))
        // The routes below require no credentials.
        .route("/status.php", get(status))
        .route("/sim-idp/token", post(logins::token))
        .layer(middleware::from_fn_with_state(shared.clone(), name_request))
        .with_state(shared)
}

fn classify(method: &Method, path: &str, headers: &HeaderMap, _: &[u8]) -> Classified {
    let resource = ["/graph/v1.0/", "/graph/v1beta1/"]
        .iter()
        .find_map(|prefix| path.strip_prefix(prefix))
        .unwrap_or(path);
    let (collection, item) = resource.split_once('/').unwrap_or((resource, ""));
    let operation = match (method.as_str(), collection, item) {
        ("GET", "me", "") => "check",
        ("GET", "me", "drives") => "list_own_spaces",
        ("GET", "drives", "") => "list_spaces",
        ("POST", "drives", "") => "create_space",
        ("GET", "drives", item) if item.ends_with("/root/permissions") => "list_permissions",
        ("POST", "drives", item) if item.ends_with("/root/invite") => "invite_member",
        ("GET", "drives", _) => "find_space",
        ("PATCH", "drives", item) if item.contains("/root/permissions/") => "update_permission",
        ("DELETE", "drives", item) if item.contains("/root/permissions/") => "remove_permission",
        ("PATCH", "drives", _) if spaces::is_true(headers, "restore") => "restore_space",
        ("PATCH", "drives", _) => "update_space",
        ("DELETE", "drives", _) if spaces::is_true(headers, "purge") => "purge_space",
        ("DELETE", "drives", _) => "disable_space",
        ("GET", "users", item) if item.ends_with("/appRoleAssignments") => "list_own_roles",
        ("GET", "users", "") => "list_users",
        ("GET", "users", _) => "find_user",
        ("POST", "users", "") => "create_user",
        ("PATCH", "users", _) => "update_user",
        ("DELETE", "users", _) => "delete_user",
        ("GET", "groups", _) => "find_group",
        ("POST", "groups", "") => "create_group",
        ("PATCH", "groups", _) => "update_group",
        ("DELETE", "groups", _) => "delete_group",
        _ if path == "/sim-idp/token" => "fetch_token",
        _ if path == "/status.php" => "probe",
        _ => "other",
    };
    Classified {
        operation,
        write: path.starts_with("/graph/") && method != Method::GET,
    }
}

/// Returns the request's own id, or a generated one.
async fn name_request(Held(shared): Held<Shared>, request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).cloned();
    let id = given.unwrap_or_else(|| {
        let mut state = shared.lock();
        state.requests += 1;
        HeaderValue::from_str(&format!("sim/ocis-{:06}", state.requests))
            .expect("digits and letters make a header value")
    });
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

async fn status(Held(shared): Held<Shared>) -> Json<Value> {
    Json(json!({
        "installed": true,
        "maintenance": false,
        "needsDbUpgrade": false,
        "version": "0.1.0.0",
        "versionstring": "0.1.0",
        "edition": "Community",
        "productname": "Infinite Scale",
        "product": "Infinite Scale",
        "productversion": shared.lock().version,
    }))
}
