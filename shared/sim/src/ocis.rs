//! Simulator of oCIS: project spaces, users and groups behind the graph API.
//!
//! Its limitations matter most: names and aliases of spaces are not unique, filters by them are ignored, and objects
//! that the account may not see return 404.

mod groups;
mod logins;
mod people;
mod responses;
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
    routing::{get, post},
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

pub use self::spaces::SimSpace;
use self::{groups::Group, logins::Logins, people::People};
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
}

#[derive(Debug)]
struct State {
    spaces: Vec<SimSpace>,
    people: People,
    logins: Logins,
    requests: u64,
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
    pub const PASSWORD: &str = "sim-ocis-app-token";
    /// Client id at the token endpoint.
    pub const OIDC_CLIENT_ID: &str = "ocis";
    /// App password of the service account at the token endpoint.
    pub const OIDC_PASSWORD: &str = "sim-idp-app-password";

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
            })),
            effects: effects.clone(),
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
        self.shared.lock().people.demoted = demoted;
    }

    /// All project spaces, including trashed ones, by id.
    pub fn spaces(&self) -> Vec<SimSpace> {
        let mut spaces = self.shared.lock().spaces.clone();
        spaces.retain(|space| space.drive_type == "project");
        spaces.sort_by(|a, b| a.id.cmp(&b.id));
        spaces
    }

    /// Adds a project space that holds `used` bytes, as another client would. Returns its id.
    pub fn add_space(&self, name: &str, alias: &str, used: i64) -> String {
        let mut space = SimSpace::project(name);
        alias.clone_into(&mut space.alias);
        space.used = used;
        let id = space.id.clone();
        self.shared.lock().spaces.push(space);
        id
    }

    /// Edits a space directly, bypassing the API.
    pub fn edit_space(&self, id: &str, edit: impl FnOnce(&mut SimSpace)) {
        let mut state = self.shared.lock();
        let space = state.spaces.iter_mut().find(|space| space.id == id);
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
    let resource = path.strip_prefix("/graph/v1.0/").unwrap_or(path);
    let (collection, item) = resource.split_once('/').unwrap_or((resource, ""));
    let operation = match (method.as_str(), collection, item) {
        ("GET", "me", "") => "check",
        ("GET", "drives", "") => "list_spaces",
        ("POST", "drives", "") => "create_space",
        ("GET", "drives", _) => "find_space",
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

async fn status() -> Json<Value> {
    Json(json!({
        "installed": true,
        "maintenance": false,
        "needsDbUpgrade": false,
        "version": "0.1.0.0",
        "versionstring": "0.1.0",
        "edition": "Community",
        "productname": "oCIS simulator",
        "product": "oCIS simulator",
        "productversion": "0.1.0",
    }))
}
