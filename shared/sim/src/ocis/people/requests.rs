//! Requests about users: the account of the caller, and administration.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State as Held},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        Shared, SimSpace,
        logins::Caller,
        responses::{PREFIX, forbidden, new_id, not_found, object, refusal, text},
    },
    User,
};

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
pub(in crate::ocis) struct Expand {
    #[serde(rename = "$expand")]
    expand: Option<String>,
}

/// `GET /me`, with the own roles if `$expand` asks for them.
pub(in crate::ocis) async fn me(
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
pub(in crate::ocis) async fn list_roles(
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
pub(in crate::ocis) struct Search {
    #[serde(rename = "$search")]
    search: Option<String>,
    #[serde(rename = "$filter")]
    filter: Option<String>,
}

/// `GET /users`: all, or those whose name, display name or address contains the search term.
pub(in crate::ocis) async fn list_users(
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
pub(in crate::ocis) async fn create_user(
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
pub(in crate::ocis) async fn find_user(
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
pub(in crate::ocis) async fn update_user(
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
pub(in crate::ocis) async fn delete_user(
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
