//! Groups, to the extent that the control plane uses them.

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, State as Held},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use uuid::Uuid;

use super::{
    Shared,
    logins::Caller,
    people::{AppRole, Group, People},
    responses::{PREFIX, forbidden, new_id, not_found, object, refusal, text},
};

impl People {
    /// Name of the group with this id.
    pub(super) fn group_name(&self, id: Uuid) -> Option<&str> {
        let group = self.groups.iter().find(|group| group.id == id)?;
        Some(&group.name)
    }
}

/// `POST /groups`. The description is dropped, members are ignored.
pub(super) async fn create(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    let body = match object(&body, &["displayName", "description", "members@odata.bind"]) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal(PREFIX),
    };
    let mut state = shared.lock();
    if state.people.role_of(&caller) != AppRole::Admin {
        return forbidden();
    }
    let Some(name) = text(&body, "displayName") else {
        return refusal(400, "invalidRequest", "Missing Required Attribute");
    };
    if state.people.groups.iter().any(|group| group.name == name) {
        return refusal(409, "nameAlreadyExists", "group already exists");
    }
    let group = Group {
        id: new_id(),
        name: name.to_owned(),
    };
    let view = group.view();
    shared.effects.record("create_group", name);
    state.people.groups.push(group);
    (StatusCode::CREATED, Json(view)).into_response()
}

/// `GET /groups/{id or name}`.
pub(super) async fn find(Held(shared): Held<Shared>, Path(id): Path<String>) -> Response {
    let state = shared.lock();
    let found = state
        .people
        .groups
        .iter()
        .find(|group| group.id.to_string() == id || group.name == id);
    match found {
        Some(group) => Json(group.view()).into_response(),
        None => not_found(),
    }
}

/// `PATCH /groups/{id}`: renames a group. Names are not accepted in place of the id.
pub(super) async fn update(
    Held(shared): Held<Shared>,
    Path(id): Path<String>,
    body: Bytes,
) -> Response {
    let body = match object(&body, &["displayName"]) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal(PREFIX),
    };
    let mut state = shared.lock();
    let groups = &mut state.people.groups;
    let Some(place) = groups.iter().position(|group| group.id.to_string() == id) else {
        return not_found();
    };
    if let Some(name) = text(&body, "displayName").filter(|name| *name != groups[place].name) {
        if groups.iter().any(|group| group.name == name) {
            return refusal(409, "nameAlreadyExists", "Group name already in use");
        }
        name.clone_into(&mut groups[place].name);
        shared.effects.record("update_group", name);
    }
    StatusCode::NO_CONTENT.into_response()
}

/// `DELETE /groups/{id}`. Names are not accepted in place of the id.
pub(super) async fn delete(Held(shared): Held<Shared>, Path(id): Path<String>) -> Response {
    let mut state = shared.lock();
    let groups = &mut state.people.groups;
    let Some(place) = groups.iter().position(|group| group.id.to_string() == id) else {
        return not_found();
    };
    let group = groups.remove(place);
    shared.effects.record("delete_group", group.name);
    StatusCode::NO_CONTENT.into_response()
}
