//! `/core/groups/`: groups and memberships.

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Group, Sim, State,
    wire::{Body, Params, Refusal, all, attributes_filter, attributes_match, first, flag, page},
};

pub(super) async fn list(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    let groups = matching(&state, &params)?;
    page(&params, &groups, |group| view(&state, group, &params))
}

pub(super) async fn create(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
    mut body: Body,
) -> Result<Response, Refusal> {
    let mut state = sim.state();
    body.require(&["name"]);
    let mut group = Group::new("", serde_json::Map::new());
    let members = apply(&state, &mut group, &mut body)?;
    state.groups.insert(group.id, group.clone());
    set_members(&mut state, group.id, members);
    sim.effects.record("create_group", &group.name);
    Ok((StatusCode::CREATED, Json(view(&state, &group, &params))).into_response())
}

pub(super) async fn read(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
    Query(params): Query<Params>,
) -> Result<Json<Value>, Refusal> {
    let state = sim.state();
    let group = find(&state, &id)?;
    Ok(Json(view(&state, group, &params)))
}

pub(super) async fn update(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
    Query(params): Query<Params>,
    mut body: Body,
) -> Result<Json<Value>, Refusal> {
    let mut state = sim.state();
    let before = find(&state, &id)?.clone();
    let members_before = members(&state, before.id);
    let mut group = before.clone();
    let requested_members = apply(&state, &mut group, &mut body)?;
    state.groups.insert(group.id, group.clone());
    set_members(&mut state, group.id, requested_members);
    if group != before || members(&state, group.id) != members_before {
        sim.effects.record("update_group", &group.name);
    }
    Ok(Json(view(&state, &group, &params)))
}

pub(super) async fn remove(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
) -> Result<StatusCode, Refusal> {
    let mut state = sim.state();
    let group = find(&state, &id)?.clone();
    state.groups.remove(&group.id);
    set_members(&mut state, group.id, Some(Vec::new()));
    state.apps.forget_group(group.id);
    state.log_openings("delete_group");
    sim.effects.record("delete_group", group.name);
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn add_user(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    set_membership(&sim, &id, body, true)
}

pub(super) async fn remove_user(
    Shared(sim): Shared<Sim>,
    Path(id): Path<String>,
    body: Body,
) -> Result<StatusCode, Refusal> {
    set_membership(&sim, &id, body, false)
}

/// Idempotent: 204 also for an existing or a missing membership.
fn set_membership(
    sim: &Sim,
    id: &str,
    mut body: Body,
    member: bool,
) -> Result<StatusCode, Refusal> {
    let mut state = sim.state();
    let group = find(&state, id)?.clone();
    body.require(&["pk"]);
    body.check()?;
    let pk = body.members()["pk"].as_i64();
    let user = pk.and_then(|pk| state.users.get_mut(&pk));
    let user = user.ok_or_else(|| Refusal::detail(StatusCode::NOT_FOUND, "Not found."))?;
    let (operation, changed) = if member {
        ("add_member", user.groups.insert(group.id))
    } else {
        ("remove_member", user.groups.remove(&group.id))
    };
    if changed {
        let key = format!("{}/{}", group.name, user.username);
        sim.effects.record(operation, key);
    }
    Ok(StatusCode::NO_CONTENT)
}

fn find<'a>(state: &'a State, id: &str) -> Result<&'a Group, Refusal> {
    let group = id.parse::<Uuid>().ok().and_then(|id| state.groups.get(&id));
    group.ok_or_else(|| Refusal::missing("Group"))
}

fn matching<'a>(state: &'a State, params: &Params) -> Result<Vec<&'a Group>, Refusal> {
    let mut groups: Vec<&Group> = state.groups.values().collect();
    groups.sort_by(|a, b| a.name.cmp(&b.name));
    if state.ignores_filters {
        return Ok(groups);
    }
    if let Some(name) = first(params, "name") {
        groups.retain(|group| group.name == name);
    }
    if let Some(part) = first(params, "search") {
        let part = part.to_lowercase();
        groups.retain(|group| group.name.to_lowercase().contains(&part));
    }
    if let Some(is_superuser) = flag(params, "is_superuser") {
        groups.retain(|group| group.is_superuser == is_superuser);
    }
    if let Some(wanted) = attributes_filter(params)? {
        groups.retain(|group| attributes_match(&group.attributes, &wanted));
    }
    let mut wanted_members = Vec::new();
    for name in ["members_by_pk", "members_by_username"] {
        for choice in all(params, name) {
            let member = state.users.values().find(|user| match name {
                "members_by_pk" => user.pk.to_string() == choice,
                _ => user.username == choice,
            });
            wanted_members.push(member.ok_or_else(|| Refusal::no_choice(name, choice))?);
        }
    }
    if !wanted_members.is_empty() {
        groups.retain(|group| {
            let mut members = wanted_members.iter();
            members.any(|member| member.groups.contains(&group.id))
        });
    }
    Ok(groups)
}

/// Applies the body to the group. Returns the members, if the body contains them.
fn apply(state: &State, group: &mut Group, body: &mut Body) -> Result<Option<Vec<i64>>, Refusal> {
    if let Some(name) = body.text_not_blank("name") {
        let mut others = state.groups.values().filter(|other| other.id != group.id);
        if others.any(|other| other.name == name) {
            body.error::<()>("name", "Group with this name already exists.");
        }
        group.name = name;
    }
    if let Some(is_superuser) = body.flag("is_superuser") {
        group.is_superuser = is_superuser;
    }
    if let Some(attributes) = body.object("attributes") {
        group.attributes = attributes;
    }
    let members = body.ids("users", |pk| {
        pk.as_i64().filter(|pk| state.users.contains_key(pk))
    });
    body.check()?;
    Ok(members)
}

fn members(state: &State, group: Uuid) -> Vec<i64> {
    let users = state.users.values();
    let members = users.filter(|user| user.groups.contains(&group));
    members.map(|user| user.pk).collect()
}

fn set_members(state: &mut State, group: Uuid, members: Option<Vec<i64>>) {
    let Some(members) = members else { return };
    for user in state.users.values_mut() {
        if members.contains(&user.pk) {
            user.groups.insert(group);
        } else {
            user.groups.remove(&group);
        }
    }
}

/// Response body of a group, including its members unless the query disables that.
fn view(state: &State, group: &Group, params: &Params) -> Value {
    let members = members(state, group.id);
    let with_users = flag(params, "include_users").unwrap_or(true);
    let users_obj: Option<Vec<Value>> = with_users.then(|| {
        let members = members.iter().map(|pk| &state.users[pk]);
        members
            .map(|user| {
                json!({
                    "pk": user.pk,
                    "username": user.username,
                    "name": user.name,
                    "is_active": user.is_active,
                    "last_login": null,
                    "email": user.email,
                    "attributes": user.attributes,
                    "uid": super::users::uid(user),
                })
            })
            .collect()
    });
    json!({
        "pk": group.id,
        "num_pk": group.id.as_u128() % 100_000,
        "name": group.name,
        "is_superuser": group.is_superuser,
        "parents": [],
        "parents_obj": null,
        "users": members,
        "users_obj": users_obj,
        "attributes": group.attributes,
        "roles": [],
        "roles_obj": [],
        "inherited_roles_obj": null,
        "children": [],
        "children_obj": null,
    })
}
