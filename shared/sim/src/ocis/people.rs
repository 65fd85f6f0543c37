//! Users, to the extent that the control plane uses them, and the service account.

mod lookup;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State as Held},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    OcisSim, Shared, SimSpace,
    groups::Group,
    logins::Caller,
    members::{Grant, Role},
    responses::{PREFIX, forbidden, new_id, not_found, object, refusal, text},
};

const APPLICATION: &str = "0f0b6c8e-3f0c-4f0e-9d58-7b1d7a4c2e11";

/// Role of an account on the whole server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppRole {
    /// Everything.
    Admin,
    /// All spaces, but no accounts.
    SpaceAdmin,
    /// Only what it is a member of.
    User,
}

impl AppRole {
    /// Ids are fixed in the server's source.
    fn id(self) -> &'static str {
        match self {
            Self::Admin => "71881883-1768-46bd-a24d-a356a2afdf7f",
            Self::SpaceAdmin => "2aadd357-682c-406b-8874-293091995fdd",
            Self::User => "d7beeea8-8ff4-406b-8fb6-ab2dd81e6b11",
        }
    }
}

#[derive(Debug)]
pub(super) struct People {
    pub(super) service_account: Uuid,
    /// Server role of the service account. Every other account is a plain user.
    pub(super) service_role: AppRole,
    users: Vec<User>,
    pub(super) groups: Vec<Group>,
    /// Whether new usernames may have any form, as with `GRAPH_USERNAME_MATCH=none`.
    pub(super) any_username: bool,
}

#[derive(Debug)]
struct User {
    id: Uuid,
    username: String,
    display_name: String,
    mail: Option<String>,
    /// Part of the response to a create only if it was sent.
    enabled: bool,
}

impl People {
    pub(super) fn with_service_account() -> Self {
        let account = User {
            id: new_id(),
            username: OcisSim::USER.to_owned(),
            display_name: "Control plane".to_owned(),
            mail: Some("svc-dezky@ocis.sim".to_owned()),
            enabled: true,
        };
        Self {
            service_account: account.id,
            service_role: AppRole::Admin,
            users: vec![account],
            groups: Vec::new(),
            any_username: false,
        }
    }

    pub(super) fn add_account(&mut self, name: &str) -> Uuid {
        let account = User {
            id: new_id(),
            username: name.to_owned(),
            display_name: name.to_owned(),
            mail: None,
            enabled: true,
        };
        let id = account.id;
        self.users.push(account);
        id
    }

    /// Whether an account with this user name may sign in.
    pub(super) fn knows(&self, username: &str) -> bool {
        self.users
            .iter()
            .any(|user| user.username == username && user.enabled)
    }

    fn user_of(&self, caller: &Caller) -> &User {
        self.users
            .iter()
            .find(|user| user.username == caller.0)
            .expect("a caller is a known account")
    }

    pub(super) fn id_of(&self, caller: &Caller) -> Uuid {
        self.user_of(caller).id
    }

    pub(super) fn role_of(&self, caller: &Caller) -> AppRole {
        self.role_of_user(self.id_of(caller))
    }

    fn role_of_user(&self, id: Uuid) -> AppRole {
        if id == self.service_account {
            self.service_role
        } else {
            AppRole::User
        }
    }

    /// Whether the caller administers all spaces.
    pub(super) fn administers_spaces(&self, caller: &Caller) -> bool {
        self.role_of(caller) != AppRole::User
    }

    fn is_admin(&self, caller: &Caller) -> bool {
        self.role_of(caller) == AppRole::Admin
    }

    /// Role of the caller in a space. A demoted service account is a member of none.
    pub(super) fn membership(&self, caller: &Caller, grants: &[Grant]) -> Option<Role> {
        let id = self.id_of(caller);
        if id == self.service_account && self.service_role == AppRole::User {
            return None;
        }
        grants
            .iter()
            .find(|grant| grant.id == id)
            .map(|grant| grant.role)
    }

    /// Grant of the creator of a space, here the service account.
    pub(super) fn service_grant(&self) -> Grant {
        Grant::user(self.service_account, "Control plane", Role::Manager)
    }

    /// Grant of the creator of a space.
    pub(super) fn creator_grant(&self, caller: &Caller) -> Grant {
        let creator = self.user_of(caller);
        Grant::user(creator.id, &creator.display_name, Role::Manager)
    }

    fn role_assignment(&self, id: Uuid) -> Value {
        json!({
            "id": id,
            "appRoleId": self.role_of_user(id).id(),
            "principalId": id,
            "principalType": "User",
            "resourceDisplayName": "oCIS simulator",
            "resourceId": APPLICATION,
        })
    }

    pub(super) fn users(&self) -> Vec<Value> {
        self.users.iter().map(User::view).collect()
    }

    fn user_mut(&mut self, id_or_name: &str) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.is(id_or_name))
    }

    fn username_taken(&self, name: &str, by_other_than: Option<Uuid>) -> bool {
        self.users
            .iter()
            .any(|user| user.username.eq_ignore_ascii_case(name) && Some(user.id) != by_other_than)
    }
}

impl User {
    fn is(&self, id_or_name: &str) -> bool {
        self.id.to_string() == id_or_name || self.username == id_or_name
    }

    fn view(&self) -> Value {
        let mut view = json!({
            "id": self.id,
            "onPremisesSamAccountName": self.username,
            "displayName": self.display_name,
            "surname": self.username,
            "userType": "Member",
            "accountEnabled": self.enabled,
        });
        if let Some(mail) = &self.mail {
            view["mail"] = json!(mail);
        }
        view
    }

    fn view_without(&self, field: &str) -> Value {
        let mut view = self.view();
        view.as_object_mut()
            .expect("a view is an object")
            .remove(field);
        view
    }
}

fn user_exists() -> Response {
    refusal(
        409,
        "nameAlreadyExists",
        "a user with that name already exists",
    )
}

fn valid_username(name: &str) -> bool {
    name.is_ascii()
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && !name.contains(' ')
}

fn valid_mail(mail: &str) -> bool {
    mail.contains('@') && !mail.contains(' ')
}

#[derive(Deserialize)]
pub(super) struct Expand {
    #[serde(rename = "$expand")]
    expand: Option<String>,
}

/// `GET /me`, with the own roles if `$expand` asks for them.
pub(super) async fn me(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Expand>,
) -> Json<Value> {
    let state = shared.lock();
    let user = state.people.user_of(&caller);
    let mut view = json!({
        "id": user.id,
        "onPremisesSamAccountName": user.username,
        "displayName": user.display_name,
        "identities": [{ "issuer": "https://ocis.sim", "issuerAssignedId": user.id }],
        "preferredLanguage": "en",
        "userType": "Member",
    });
    if let Some(mail) = &user.mail {
        view["mail"] = json!(mail);
    }
    if query.expand.as_deref() == Some("appRoleAssignments") {
        view["appRoleAssignments"] = json!([state.people.role_assignment(user.id)]);
    }
    Json(view)
}

/// `GET /users/{id}/appRoleAssignments`, for administrators only. Names are not accepted in place of the id.
pub(super) async fn list_roles(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let state = shared.lock();
    if !state.people.is_admin(&caller) {
        return forbidden();
    }
    let mut users = state.people.users.iter();
    let user = users.find(|user| user.id.to_string() == id);
    let roles: Vec<_> = user
        .map(|user| state.people.role_assignment(user.id))
        .into_iter()
        .collect();
    Json(json!({ "value": roles })).into_response()
}

#[derive(Deserialize)]
pub(super) struct Search {
    #[serde(rename = "$search")]
    search: Option<String>,
    #[serde(rename = "$filter")]
    filter: Option<String>,
}

/// `GET /users`: all, or those whose name, display name or address contains the search term.
pub(super) async fn list_users(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<Search>,
) -> Response {
    let state = shared.lock();
    if !state.people.is_admin(&caller) && query.search.is_none() {
        return refusal(403, "accessDenied", "search term too short");
    }
    if query.filter.is_some() {
        return refusal(501, "generalException", "unsupported filter");
    }
    let term = query.search.unwrap_or_default().to_lowercase();
    let views: Vec<_> = state
        .people
        .users
        .iter()
        .filter(|user| {
            let mail = user.mail.as_deref().unwrap_or_default();
            [user.username.as_str(), &user.display_name, mail]
                .iter()
                .any(|text| text.to_lowercase().contains(&term))
        })
        .map(User::view)
        .collect();
    Json(json!({ "value": views })).into_response()
}

/// `POST /users`.
pub(super) async fn create_user(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    const KNOWN: [&str; 9] = [
        "id",
        "onPremisesSamAccountName",
        "displayName",
        "mail",
        "passwordProfile",
        "accountEnabled",
        "givenName",
        "surname",
        "identities",
    ];
    let invalid = |message: &str| refusal(400, "invalidRequest", message);
    let mut state = shared.lock();
    if !state.people.is_admin(&caller) {
        return forbidden();
    }
    let body = match object(&body, &KNOWN) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal(PREFIX),
    };
    for field in ["displayName", "onPremisesSamAccountName"] {
        if !body.contains_key(field) {
            return invalid(&format!(
                "{PREFIX}no value given for required property {field}"
            ));
        }
    }
    let username = text(&body, "onPremisesSamAccountName").unwrap_or_default();
    let display_name = text(&body, "displayName").unwrap_or_default();
    let mail = text(&body, "mail");
    if body.contains_key("id") {
        return invalid("user id is a read-only attribute");
    }
    if display_name.is_empty() {
        return invalid("Empty displayname");
    }
    if !state.people.any_username && !valid_username(username) {
        return invalid("Invalid username");
    }
    if mail.is_some_and(|mail| !valid_mail(mail)) {
        return invalid("invalid email address");
    }
    if state.people.username_taken(username, None) {
        return user_exists();
    }

    let enabled = body.get("accountEnabled").and_then(Value::as_bool);
    let user = User {
        id: new_id(),
        username: username.to_owned(),
        display_name: display_name.to_owned(),
        mail: mail.map(str::to_owned),
        enabled: enabled.unwrap_or(true),
    };
    let view = match enabled {
        Some(_) => user.view(),
        None => user.view_without("accountEnabled"),
    };
    shared.effects.record("create_user", username);
    state.people.users.push(user);
    (StatusCode::CREATED, Json(view)).into_response()
}

/// `GET /users/{id or name}`, with the personal space if `$expand` asks for it: without an id before the first login.
/// The address is hidden, even from administrators.
pub(super) async fn find_user(
    Held(shared): Held<Shared>,
    Path(id): Path<String>,
    Query(query): Query<Expand>,
) -> Response {
    let state = shared.lock();
    let Some(user) = state.people.users.iter().find(|user| user.is(&id)) else {
        return not_found();
    };
    let mut view = user.view_without("mail");
    let expanded = query.expand.unwrap_or_default();
    if expanded.split(',').any(|part| part == "drive") {
        let personal = SimSpace::personal_id(&user.id);
        let mut spaces = state.spaces.iter();
        let space = spaces.find(|space| space.id == personal);
        view["drive"] = space.map_or_else(|| json!({ "name": "" }), |space| json!(space.view()));
    }
    Json(view).into_response()
}

/// `PATCH /users/{id or name}`.
pub(super) async fn update_user(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    const KNOWN: [&str; 7] = [
        "onPremisesSamAccountName",
        "displayName",
        "mail",
        "passwordProfile",
        "accountEnabled",
        "givenName",
        "surname",
    ];
    let body = match object(&body, &KNOWN) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal(PREFIX),
    };
    let mut state = shared.lock();
    if !state.people.is_admin(&caller) {
        return forbidden();
    }
    let Some(own) = state.people.user_mut(&id).map(|user| user.id) else {
        return not_found();
    };
    let username = text(&body, "onPremisesSamAccountName");
    if username.is_some_and(|name| state.people.username_taken(name, Some(own))) {
        return user_exists();
    }
    if body.is_empty() {
        return StatusCode::NO_CONTENT.into_response();
    }

    let user = state
        .people
        .user_mut(&id)
        .expect("the user was found above");
    let before = user.view();
    if let Some(username) = username {
        username.clone_into(&mut user.username);
    }
    if let Some(name) = text(&body, "displayName") {
        name.clone_into(&mut user.display_name);
    }
    if let Some(mail) = text(&body, "mail") {
        user.mail = Some(mail.to_owned());
    }
    if let Some(enabled) = body.get("accountEnabled").and_then(Value::as_bool) {
        user.enabled = enabled;
    }
    if user.view() != before {
        shared.effects.record("update_user", &user.username);
    }
    Json(user.view()).into_response()
}

/// `DELETE /users/{id or name}`. The personal space is purged; grants in other spaces stay. The name becomes available
/// for a user with another id.
pub(super) async fn delete_user(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let mut state = shared.lock();
    if !state.people.is_admin(&caller) {
        return forbidden();
    }
    let Some(place) = state.people.users.iter().position(|user| user.is(&id)) else {
        return not_found();
    };
    if state.people.users[place].id == state.people.service_account {
        return refusal(403, "notAllowed", "self deletion forbidden");
    }
    let user = state.people.users.remove(place);
    let personal = SimSpace::personal_id(&user.id);
    state.spaces.retain(|space| space.id != personal);
    shared.effects.record("delete_user", user.username);
    StatusCode::NO_CONTENT.into_response()
}
