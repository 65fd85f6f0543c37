//! oCIS: project spaces, users and groups behind the graph API, as the real server answers.
//!
//! What matters most is what the real one does not do: names and aliases of spaces are not unique, filters by
//! them are ignored, and what an account may not see answers as if it were not there.

mod answers;
mod groups;
mod logins;
mod people;
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
    server::{Asked, Server},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A simulated oCIS with a small token endpoint beside it.
#[derive(Debug)]
pub struct OcisSim {
    /// Where it is served, with its faults and effects.
    pub server: Server,
    shared: Shared,
}

/// What the handlers share.
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
    /// Its app token.
    pub const PASSWORD: &str = "sim-ocis-app-token";
    /// The client id that the token endpoint knows.
    pub const OIDC_CLIENT_ID: &str = "ocis";
    /// The service account's app password at the token endpoint.
    pub const OIDC_PASSWORD: &str = "sim-idp-app-password";

    /// Serves an oCIS with nothing in it but the service account.
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

    /// The token endpoint's address.
    pub fn token_url(&self) -> String {
        format!("{}/sim-idp/token", self.server.url)
    }

    /// From now on oCIS answers 401 to everybody, or no longer.
    pub fn reject_credentials(&self, reject: bool) {
        self.shared.lock().logins.reject_all = reject;
    }

    /// From now on oCIS cannot reach its identity provider, or can again: tokens it has not seen yet get 401.
    /// For a token endpoint that fails as well, add a fault to `fetch_token`.
    pub fn idp_down(&self, down: bool) {
        self.shared.lock().logins.idp_down = down;
    }

    /// From now on the token endpoint refuses our client, or no longer.
    pub fn refuse_client(&self, refuse: bool) {
        self.shared.lock().logins.refuse_client = refuse;
    }

    /// Ends every access token issued so far.
    pub fn expire_tokens(&self) {
        self.shared.lock().logins.expire_all();
    }

    /// How long access tokens live that are issued from now on.
    pub fn set_token_lifetime(&self, lifetime: Duration) {
        self.shared.lock().logins.lifetime = lifetime;
    }

    /// From now on the service account is a plain user who is a member of nothing, or an admin again.
    pub fn demote(&self, demoted: bool) {
        self.shared.lock().people.demoted = demoted;
    }

    /// Every project space, those in the trash too, by id.
    pub fn spaces(&self) -> Vec<SimSpace> {
        let mut spaces = self.shared.lock().spaces.clone();
        spaces.retain(|space| space.drive_type == "project");
        spaces.sort_by(|a, b| a.id.cmp(&b.id));
        spaces
    }

    /// Adds a project space as somebody else would, holding `used` bytes; answers its id.
    pub fn add_space(&self, name: &str, alias: &str, used: i64) -> String {
        let mut space = SimSpace::project(name);
        alias.clone_into(&mut space.alias);
        space.used = used;
        let id = space.id.clone();
        self.shared.lock().spaces.push(space);
        id
    }

    /// Changes a space as a manager, a member or a mishap would.
    pub fn edit_space(&self, id: &str, edit: impl FnOnce(&mut SimSpace)) {
        let mut state = self.shared.lock();
        let space = state.spaces.iter_mut().find(|space| space.id == id);
        edit(space.expect("the space to edit exists"));
    }

    /// Everything it holds, secrets masked.
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
        .fallback(|| async { answers::no_such_route() })
        .layer(middleware::from_fn_with_state(
            shared.clone(),
            logins::authenticate,
        ))
        // Below here nobody needs credentials.
        .route("/status.php", get(status))
        .route("/sim-idp/token", post(logins::token))
        .layer(middleware::from_fn_with_state(shared.clone(), name_request))
        .with_state(shared)
}

fn classify(method: &Method, path: &str, headers: &HeaderMap, _: &[u8]) -> Asked {
    let resource = path.strip_prefix("/graph/v1.0/").unwrap_or(path);
    let (collection, item) = resource.split_once('/').unwrap_or((resource, ""));
    let operation = match (method.as_str(), collection, item) {
        ("GET", "me", "") => "check",
        ("GET", "drives", "") => "list_spaces",
        ("POST", "drives", "") => "create_space",
        ("GET", "drives", _) => "find_space",
        ("PATCH", "drives", _) if spaces::asks(headers, "restore") => "restore_space",
        ("PATCH", "drives", _) => "update_space",
        ("DELETE", "drives", _) if spaces::asks(headers, "purge") => "purge_space",
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
    Asked {
        operation,
        write: path.starts_with("/graph/") && method != Method::GET,
    }
}

/// Answers with the request's own id, or one made here.
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
