//! `/core/users/`: users and their recovery links.

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
    response::{IntoResponse as _, Response},
};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{
    RecoveryLink, Sim, State, User, setup,
    wire::{Body, Params, Refusal, all, attributes_filter, attributes_match, first, flag, page},
};

/// Owner of the API token, who is not part of the list of users.
pub(super) async fn me() -> Json<Value> {
    let me = json!({
        "pk": 7,
        "username": "svc-provisioner",
        "name": "svc-provisioner",
        "is_active": true,
        "is_superuser": false,
        "groups": [],
        "roles": [{ "name": "dezky-provisioner", "pk": setup::ROLE }],
        "email": "",
        "type": "service_account",
        "settings": {},
        "system_permissions": [],
    });
    Json(json!({ "user": me, "users": [me] }))
}

pub(super) async fn list(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    let users = matching(&state, &params)?;
    page(&params, &users, |user| view(&state, user, &params))
}

pub(super) async fn create(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
    mut body: Body,
) -> Result<Response, Refusal> {
    let mut state = sim.state();
    body.require(&["username", "name"]);
    let mut user = User::new(state.next_number(), "");
    apply(&state, &mut user, &mut body)?;
    state.users.insert(user.pk, user.clone());
    sim.effects.record("create_user", &user.username);
    Ok((StatusCode::CREATED, Json(view(&state, &user, &params))).into_response())
}

pub(super) async fn read(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
    Query(params): Query<Params>,
) -> Result<Json<Value>, Refusal> {
    let state = sim.state();
    let user = find(&state, &pk)?;
    Ok(Json(view(&state, user, &params)))
}

pub(super) async fn update(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
    Query(params): Query<Params>,
    mut body: Body,
) -> Result<Json<Value>, Refusal> {
    let mut state = sim.state();
    let before = find(&state, &pk)?.clone();
    let mut user = before.clone();
    apply(&state, &mut user, &mut body)?;
    state.users.insert(user.pk, user.clone());
    if body.members().get("is_active") == Some(&Value::Bool(false)) {
        state.sign_out(user.pk);
    }
    if user != before {
        let operation = kind_of_update(body.members());
        sim.effects.record(operation, &user.username);
    }
    Ok(Json(view(&state, &user, &params)))
}

/// Effect name of an update, by the client's name for it.
pub(super) fn kind_of_update(body: &Map<String, Value>) -> &'static str {
    match body.get("is_active").and_then(Value::as_bool) {
        Some(false) => "freeze_user",
        Some(true) => "unfreeze_user",
        None => "update_user",
    }
}

pub(super) async fn remove(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
) -> Result<StatusCode, Refusal> {
    let mut state = sim.state();
    let user = find(&state, &pk)?.clone();
    state.users.remove(&user.pk);
    state.sign_out(user.pk);
    state.recovery_links.remove(&user.pk);
    state.devices.retain(|_, device| device.user != user.pk);
    state.api_tokens.retain(|_, token| token.user != user.pk);
    sim.effects.record("delete_user", user.username);
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces an existing link. The host is taken from the request.
pub(super) async fn recovery_link(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<String>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Json<Value>, Refusal> {
    let mut state = sim.state();
    let user = find(&state, &pk)?.clone();
    if !state.has_recovery_flow {
        let body = json!({ "non_field_errors": "No recovery flow set." });
        return Err(Refusal::invalid(body));
    }
    let key = Uuid::new_v4();
    let valid_for = body.text("token_duration");
    state
        .recovery_links
        .insert(user.pk, RecoveryLink { key, valid_for });
    sim.effects.record("create_recovery_link", user.username);
    let host = headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let flow = format!("http://{host}/if/flow/default-recovery-flow/");
    let link = format!("{flow}?flow_token={}", key.simple());
    Ok(Json(json!({ "link": link })))
}

pub(super) fn find<'a>(state: &'a State, pk: &str) -> Result<&'a User, Refusal> {
    let user = pk.parse::<i64>().ok().and_then(|pk| state.users.get(&pk));
    user.ok_or_else(|| Refusal::missing("User"))
}

fn matching<'a>(state: &'a State, params: &Params) -> Result<Vec<&'a User>, Refusal> {
    let mut users: Vec<&User> = state.users.values().collect();
    users.sort_by(|a, b| a.username.cmp(&b.username));
    if state.ignores_filters {
        return Ok(users);
    }
    if let Some(username) = first(params, "username") {
        users.retain(|user| user.username == username);
    }
    if let Some(email) = first(params, "email") {
        users.retain(|user| user.email == email);
    }
    if let Some(uuid) = first(params, "uuid") {
        users.retain(|user| user.uuid.to_string() == uuid);
    }
    if let Some(path) = first(params, "path") {
        users.retain(|user| user.path == path);
    }
    if let Some(start) = first(params, "path_startswith") {
        users.retain(|user| user.path.starts_with(start));
    }
    if let Some(is_active) = flag(params, "is_active") {
        users.retain(|user| user.is_active == is_active);
    }
    if let Some(wanted) = attributes_filter(params)? {
        users.retain(|user| attributes_match(&user.attributes, &wanted));
    }
    let types: Vec<&str> = all(params, "type").collect();
    if !types.is_empty() {
        users.retain(|user| types.contains(&user.r#type.as_str()));
    }
    for filter in ["groups_by_pk", "groups_by_name"] {
        let mut wanted = Vec::new();
        for choice in all(params, filter) {
            let group = state.groups.values().find(|group| match filter {
                "groups_by_pk" => group.id.to_string() == choice,
                _ => group.name == choice,
            });
            wanted.push(group.ok_or_else(|| Refusal::no_choice(filter, choice))?.id);
        }
        if !wanted.is_empty() {
            users.retain(|user| wanted.iter().any(|group| user.groups.contains(group)));
        }
    }
    Ok(users)
}

/// Applies the body to the user.
fn apply(state: &State, user: &mut User, body: &mut Body) -> Result<(), Refusal> {
    if let Some(username) = body.text_not_blank("username") {
        let mut others = state.users.values().filter(|other| other.pk != user.pk);
        if others.any(|other| other.username == username) {
            body.error::<()>("username", "This field must be unique.");
        }
        user.username = username;
    }
    if let Some(name) = body.text("name") {
        user.name = name;
    }
    if let Some(email) = body.text("email") {
        if !(email.is_empty() || email.contains('@')) {
            body.error::<()>("email", "Enter a valid email address.");
        }
        user.email = email;
    }
    if let Some(is_active) = body.flag("is_active") {
        user.is_active = is_active;
    }
    if let Some(kind) = body.text("type") {
        match kind.as_str() {
            "internal" | "external" | "service_account" => {}
            "internal_service_account" => {
                let text = "Setting a user to internal service account is not allowed.";
                body.error::<()>("type", text);
            }
            _ => {
                let text = format!("\"{kind}\" is not a valid choice.");
                body.error::<()>("type", &text);
            }
        }
        user.r#type = kind;
    }
    if let Some(path) = body.text_not_blank("path") {
        if path.starts_with('/') || path.ends_with('/') {
            body.error::<()>("path", "No leading or trailing slashes allowed.");
        }
        user.path = path;
    }
    if let Some(attributes) = body.object("attributes") {
        user.attributes = attributes;
    }
    let groups = body.ids("groups", |id| {
        let id = id.as_str()?.parse::<Uuid>().ok()?;
        state.groups.contains_key(&id).then_some(id)
    });
    if let Some(groups) = groups {
        user.groups = groups.into_iter().collect();
    }
    body.check()
}

/// Response body of a user, including the groups unless the query disables that.
pub(super) fn view(state: &State, user: &User, params: &Params) -> Value {
    let groups = || user.groups.iter().filter_map(|id| state.groups.get(id));
    let with_groups = flag(params, "include_groups").unwrap_or(true);
    let groups_obj: Option<Vec<Value>> = with_groups.then(|| {
        groups()
            .map(|group| {
                json!({
                    "pk": group.id,
                    "num_pk": group.id.as_u128() % 100_000,
                    "name": group.name,
                    "is_superuser": group.is_superuser,
                    "attributes": group.attributes,
                })
            })
            .collect()
    });
    let with_roles = flag(params, "include_roles").unwrap_or(true);
    json!({
        "pk": user.pk,
        "username": user.username,
        "name": user.name,
        "is_active": user.is_active,
        "last_login": user.last_login,
        "date_joined": user.date_joined,
        "is_superuser": groups().any(|group| group.is_superuser),
        "groups": user.groups,
        "groups_obj": groups_obj,
        "roles": [],
        "roles_obj": with_roles.then(|| json!([])),
        "email": user.email,
        "avatar": "/static/dist/assets/images/user_default.png",
        "attributes": user.attributes,
        "uid": uid(user),
        "path": user.path,
        "type": user.r#type,
        "uuid": user.uuid,
        "password_change_date": user.date_joined,
        "last_updated": user.date_joined,
    })
}

/// An opaque, stable id of the user.
pub(super) fn uid(user: &User) -> String {
    user.uuid.simple().to_string().repeat(2)
}
