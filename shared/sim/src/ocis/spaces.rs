//! Spaces, called drives in the graph API.

use std::collections::HashMap;

use axum::{
    Extension, Json,
    body::Bytes,
    extract::{Path, Query, State as Held},
    response::{IntoResponse as _, Response},
};
use dezky_shared::platform::clock;
use http::{HeaderMap, StatusCode};
use rand::seq::SliceRandom as _;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    Shared,
    logins::Caller,
    members::{Grant, Role},
    people::People,
    responses::{Unreadable, no_such_space, object, refusal, text},
};

const STORAGE: &str = "5f1e0d2c-7a64-4b53-9c2e-0c5d6e7f8a90";
/// Quota of a space when the request contains none.
const DEFAULT_QUOTA: i64 = 1_000_000_000;
const FORBIDDEN: [char; 10] = ['/', '\\', '.', ':', '?', '*', '"', '>', '<', '|'];

/// State of a space.
#[derive(Debug, Clone)]
pub struct SimSpace {
    /// Storage id and space id, joined by `$`.
    pub id: String,
    /// Name, not unique.
    pub name: String,
    /// `project`, `personal` or `virtual`.
    pub drive_type: String,
    /// Alias, not unique.
    pub alias: String,
    /// Description.
    pub description: String,
    /// Quota in bytes; 0 is unlimited.
    pub quota: i64,
    /// Used bytes.
    pub used: i64,
    /// Whether the space is disabled.
    pub trashed: bool,
    /// Whether a negative quota has made the space invisible.
    pub vanished: bool,
    /// Members. The creator of a space is its first manager.
    pub grants: Vec<Grant>,
    pub(super) modified: String,
}

impl SimSpace {
    /// A new, empty project space, with the grant of its creator.
    pub(super) fn project(name: &str, creator: Option<Grant>) -> Self {
        let id = uuid::Builder::from_random_bytes(rand::random()).into_uuid();
        Self {
            id: format!("{STORAGE}${id}"),
            name: name.to_owned(),
            drive_type: "project".to_owned(),
            alias: format!("project/{}", name.to_lowercase().replace(' ', "-")),
            description: String::new(),
            quota: DEFAULT_QUOTA,
            used: 0,
            trashed: false,
            vanished: false,
            grants: creator.into_iter().collect(),
            modified: now(),
        }
    }

    /// Id of an account's personal space.
    pub(super) fn personal_id(account: &Uuid) -> String {
        format!("{STORAGE}${account}")
    }

    /// Spaces visible to every account from its first login on: the personal space and the shares.
    pub(super) fn of_a_new_account(id: &Uuid, name: &str) -> Vec<Self> {
        let personal = Self {
            id: Self::personal_id(id),
            drive_type: "personal".to_owned(),
            alias: format!("personal/{name}"),
            quota: 0,
            ..Self::project(name, None)
        };
        let shares = Self {
            drive_type: "virtual".to_owned(),
            alias: "virtual/shares".to_owned(),
            quota: 0,
            ..Self::project("Shares", None)
        };
        vec![personal, shares]
    }
}

/// A list in the graph API's format.
#[derive(Serialize)]
struct List<T> {
    value: Vec<T>,
}

pub(super) fn now() -> String {
    clock::now()
        .try_to_rfc3339_string()
        .expect("the current time has an RFC 3339 form")
}

/// Whether a boolean header is true. Anything but Go's spellings of true is false, without an error.
pub(super) fn is_true(headers: &HeaderMap, header: &str) -> bool {
    headers
        .get(header)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| ["1", "t", "T", "true", "True", "TRUE"].contains(&value))
}

/// Validation error of a name, if any.
fn name_problem(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("spacename must not be empty")
    } else if name.len() > 255 {
        Some("spacename must be smaller than 255")
    } else if name.contains(FORBIDDEN) {
        Some(r#"spacenames must not contain [/ \ . : ? * " > < |]"#)
    } else {
        None
    }
}

/// `GET /drives`: all spaces in random order. Only two filters have an effect.
pub(super) async fn list(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<HashMap<String, String>>,
) -> Response {
    let filter = query.get("$filter").map_or("", String::as_str);
    let tokens: Vec<_> = filter.splitn(3, ' ').collect();
    let wanted = match tokens[..] {
        _ if filter.contains(" and ") => {
            return refusal(501, "notSupported", "unsupported filter operand: and");
        }
        _ if filter.starts_with("startswith(") => {
            return refusal(
                501,
                "notSupported",
                "unsupported filter operand: startswith",
            );
        }
        [""] => None,
        [field, "eq", value] => Some((field, value.trim_matches('\''))),
        _ => {
            let start = tokens[..tokens.len().min(2)].join(" ");
            let message = format!("invalid token sequence: {start}");
            return refusal(400, "invalidRequest", &message);
        }
    };
    if let Some(order) = query.get("$orderby") {
        let field = order.split(' ').next().unwrap_or_default();
        if !["name", "lastModifiedDateTime"].contains(&field) {
            let message = format!("we do not support <{field}> as a order parameter");
            return refusal(400, "invalidRequest", &message);
        }
    }

    let state = shared.lock();
    let mut spaces: Vec<_> = state
        .spaces
        .iter()
        .filter(|space| space.is_visible(&state.people, &caller) || space.drive_type != "project")
        .filter(|space| match wanted {
            Some(("driveType", kind)) => space.drive_type == kind,
            Some(("id", id)) => space.id == id,
            // Filters on other fields are ignored silently.
            _ => true,
        })
        .collect();
    spaces.shuffle(&mut rand::rng());
    match query.get("$orderby").map(String::as_str) {
        Some(order) if order.starts_with("name") => spaces.sort_by(|a, b| a.name.cmp(&b.name)),
        Some(_) => spaces.sort_by(|a, b| a.modified.cmp(&b.modified)),
        None => {}
    }
    let value: Vec<_> = spaces.into_iter().map(SimSpace::view).collect();
    Json(List { value }).into_response()
}

/// `GET /me/drives`: the project spaces of which the caller is a member. Filters are ignored.
pub(super) async fn list_own(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
) -> Response {
    let state = shared.lock();
    let is_own = |space: &&SimSpace| {
        let membership = state.people.membership(&caller, &space.grants);
        membership.is_some() && space.is_visible(&state.people, &caller)
    };
    let own = state.spaces.iter().filter(is_own);
    let value: Vec<_> = own.map(SimSpace::view).collect();
    Json(List { value }).into_response()
}

/// `POST /drives`: always creates a space, even if the name exists.
pub(super) async fn create(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    body: Bytes,
) -> Response {
    const KNOWN: [&str; 5] = ["name", "driveType", "description", "driveAlias", "quota"];
    let unreadable = || refusal(400, "invalidRequest", "invalid body schema definition");
    let mut state = shared.lock();
    if !state.people.administers_spaces(&caller) {
        let message = "insufficient permissions to create a space.";
        return refusal(403, "notAllowed", message);
    }
    let Ok(body) = object(&body, &KNOWN) else {
        return unreadable();
    };
    let (Some(name), Ok(quota)) = (text(&body, "name"), requested_quota(&body)) else {
        return unreadable();
    };
    if let Some(problem) = name_problem(name) {
        return refusal(
            400,
            "invalidRequest",
            &format!("invalid spacename: {problem}"),
        );
    }
    if text(&body, "driveType").is_some_and(|kind| kind != "project") {
        let message = "drives of this type cannot be created via this api";
        return refusal(400, "invalidRequest", message);
    }

    let mut space = SimSpace::project(name.trim(), Some(state.people.creator_grant(&caller)));
    space.apply(&body);
    space.quota = quota.filter(|total| *total >= 0).unwrap_or(DEFAULT_QUOTA);
    let answer = (StatusCode::CREATED, Json(space.view())).into_response();
    shared.effects.record("create_space", &space.alias);
    state.spaces.push(space);
    answer
}

/// `GET /drives/{id}`.
pub(super) async fn find(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Response {
    let state = shared.lock();
    let is_found = |space: &&SimSpace| space.id == id && space.is_visible(&state.people, &caller);
    match state.spaces.iter().find(is_found) {
        Some(space) => Json(space.view()).into_response(),
        None => refusal(404, "itemNotFound", "no drive returned from storage"),
    }
}

/// `PATCH /drives/{id}`: changes fields, or restores the space.
///
/// Editors may change the alias, managers also name and description; they may restore the space, too.
pub(super) async fn update(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // Read-only fields are accepted and ignored.
    const KNOWN: [&str; 10] = [
        "name",
        "description",
        "driveAlias",
        "quota",
        "id",
        "driveType",
        "owner",
        "root",
        "webUrl",
        "lastModifiedDateTime",
    ];
    let prefix = "invalid request body: error: ";
    let body = match object(&body, &KNOWN) {
        Ok(body) => body,
        Err(unreadable) => return unreadable.refusal(prefix),
    };
    let quota = match requested_quota(&body) {
        Ok(quota) => quota,
        Err(unreadable) => return unreadable.refusal(prefix),
    };
    let mut guard = shared.lock();
    let state = &mut *guard;
    let administers = state.people.administers_spaces(&caller);
    if quota.is_some() && !administers {
        let message = "user is not allowed to set the space quota";
        return refusal(403, "notAllowed", message);
    }
    let Some(space) = state.spaces.iter_mut().find(|space| space.id == id) else {
        return no_such_space();
    };
    let restores = is_true(&headers, "restore");
    let manages = restores || body.contains_key("name") || body.contains_key("description");
    let needed = if manages { Role::Manager } else { Role::Editor };
    let role = state.people.membership(&caller, &space.grants);
    if !administers && role.is_none_or(|role| role < needed) {
        return no_such_space();
    }
    // An empty name is ignored.
    let name = text(&body, "name").filter(|name| !name.is_empty());
    if let Some(problem) = name.and_then(name_problem) {
        return refusal(400, "generalException", problem);
    }
    if quota.is_some_and(|total| total < 0) {
        space.vanished = true;
        return refusal(500, "generalException", "grpc error");
    }

    if restores && space.trashed {
        space.trashed = false;
        shared.effects.record("restore_space", &space.alias);
    }
    let before = space.clone();
    space.apply(&body);
    if let Some(total) = quota {
        space.quota = total;
        space.vanished = false;
    }
    if space.view() != before.view() || space.vanished != before.vanished {
        shared.effects.record("update_space", &space.alias);
    }
    space.modified = now();
    Json(space.view()).into_response()
}

/// `DELETE /drives/{id}`: disables the space. With `Purge`, removes a disabled space. Managers may do both.
pub(super) async fn delete(
    Held(shared): Held<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let mut guard = shared.lock();
    let state = &mut *guard;
    let people = &state.people;
    let may_delete = |space: &SimSpace| {
        people.administers_spaces(&caller)
            || people.membership(&caller, &space.grants) == Some(Role::Manager)
    };
    let place = state.spaces.iter().position(|space| space.id == id);
    let Some(place) = place.filter(|place| may_delete(&state.spaces[*place])) else {
        return no_such_space();
    };
    let space = &mut state.spaces[place];
    if is_true(&headers, "purge") {
        if !space.trashed {
            let message = "error: bad request: can't purge enabled space";
            return refusal(400, "invalidRequest", message);
        }
        shared.effects.record("purge_space", &space.alias);
        state.spaces.remove(place);
    } else if !space.trashed {
        space.trashed = true;
        shared.effects.record("disable_space", &space.alias);
    }
    StatusCode::NO_CONTENT.into_response()
}

impl SimSpace {
    /// Whether the caller sees the space. A disabled one is hidden from all but administrators and managers.
    fn is_visible(&self, people: &People, caller: &Caller) -> bool {
        let role = people.membership(caller, &self.grants);
        !self.vanished
            && (people.administers_spaces(caller)
                || role.is_some_and(|role| !self.trashed || role == Role::Manager))
    }

    fn apply(&mut self, body: &Map<String, Value>) {
        if let Some(name) = text(body, "name").filter(|name| !name.is_empty()) {
            name.trim().clone_into(&mut self.name);
        }
        if let Some(description) = text(body, "description") {
            description.clone_into(&mut self.description);
        }
        // An empty alias is ignored.
        if let Some(alias) = text(body, "driveAlias").filter(|alias| !alias.is_empty()) {
            alias.clone_into(&mut self.alias);
        }
    }
}

/// The quota in a body, if any.
fn requested_quota(body: &Map<String, Value>) -> Result<Option<i64>, Unreadable> {
    let Some(total) = body.get("quota").and_then(|quota| quota.get("total")) else {
        return Ok(None);
    };
    total
        .as_i64()
        .map(Some)
        .ok_or(Unreadable::Malformed("json: cannot unmarshal quota.total"))
}
