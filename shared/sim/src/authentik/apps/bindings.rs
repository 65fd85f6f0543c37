//! `/policies/bindings/`: what restricts applications.

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Binding;
use crate::authentik::{
    Sim, State,
    wire::{Body, Params, Refusal, first, page},
};

/// A target that does not exist is an error of the filter.
pub(in crate::authentik) async fn list(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    sim.require("authentik_policies.view_policybinding")?;
    let state = sim.state();
    let mut bindings: Vec<(&Uuid, &Binding)> = state.apps.bindings.iter().collect();
    if let Some(target) = first(&params, "target").filter(|_| !state.ignores_filters) {
        let known = target_of(&state, target).ok_or_else(|| Refusal::no_choice("target", target));
        let known = known?;
        bindings.retain(|(_, binding)| binding.target == known);
    }
    page(&params, &bindings, |(pk, binding)| view(**pk, binding))
}

pub(in crate::authentik) async fn create(
    Shared(sim): Shared<Sim>,
    mut body: Body,
) -> Result<Response, Refusal> {
    sim.require("authentik_policies.add_policybinding")?;
    let mut state = sim.state();
    body.require(&["target", "order"]);
    let mut binding = Binding {
        target: Uuid::nil(),
        group: None,
        user: None,
        enabled: true,
        negate: false,
    };
    apply(&state, &mut binding, &mut body)?;
    let pk = Uuid::new_v4();
    let key = key(&state, &binding);
    state.apps.bindings.insert(pk, binding.clone());
    state.log_openings("create_binding");
    sim.effects.record("create_binding", key);
    Ok((StatusCode::CREATED, Json(view(pk, &binding))).into_response())
}

pub(in crate::authentik) async fn update(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<Uuid>,
    mut body: Body,
) -> Result<Json<Value>, Refusal> {
    sim.require("authentik_policies.change_policybinding")?;
    let mut state = sim.state();
    let before = find(&state, pk)?.clone();
    let mut binding = before.clone();
    apply(&state, &mut binding, &mut body)?;
    if binding != before {
        sim.effects.record("update_binding", key(&state, &binding));
    }
    state.apps.bindings.insert(pk, binding.clone());
    state.log_openings("update_binding");
    Ok(Json(view(pk, &binding)))
}

pub(in crate::authentik) async fn remove(
    Shared(sim): Shared<Sim>,
    Path(pk): Path<Uuid>,
) -> Result<StatusCode, Refusal> {
    sim.require("authentik_policies.delete_policybinding")?;
    let mut state = sim.state();
    let binding = find(&state, pk)?.clone();
    sim.effects.record("delete_binding", key(&state, &binding));
    state.apps.bindings.remove(&pk);
    state.log_openings("delete_binding");
    Ok(StatusCode::NO_CONTENT)
}

fn find(state: &State, pk: Uuid) -> Result<&Binding, Refusal> {
    let binding = state.apps.bindings.get(&pk);
    binding.ok_or_else(|| Refusal::missing("PolicyBinding"))
}

fn target_of(state: &State, pk: &str) -> Option<Uuid> {
    let pk: Uuid = pk.parse().ok()?;
    let mut applications = state.apps.applications.values();
    applications
        .any(|application| application.pk == pk)
        .then_some(pk)
}

/// Slug of the application and name of the group.
fn key(state: &State, binding: &Binding) -> String {
    let mut applications = state.apps.applications.iter();
    let application = applications.find(|(_, application)| application.pk == binding.target);
    let slug = application.map_or("none", |(slug, _)| slug.as_str());
    let group = binding.group.and_then(|group| state.groups.get(&group));
    format!("{slug}/{}", group.map_or("none", |group| &group.name))
}

fn apply(state: &State, binding: &mut Binding, body: &mut Body) -> Result<(), Refusal> {
    if let Some(target) = body.text("target") {
        if let Some(target) = target_of(state, &target) {
            binding.target = target;
        } else {
            let text = format!("Invalid pk \"{target}\" - object does not exist.");
            body.error::<()>("target", &text);
        }
    }
    if let Some(group) = body.text("group") {
        let known = group.parse().ok();
        binding.group = known.filter(|group| state.groups.contains_key(group));
        if binding.group.is_none() {
            let text = format!("Invalid pk \"{group}\" - object does not exist.");
            body.error::<()>("group", &text);
        }
    }
    if let Some(user) = body.members().get("user").and_then(Value::as_i64) {
        binding.user = Some(user);
    }
    binding.enabled = body.flag("enabled").unwrap_or(binding.enabled);
    binding.negate = body.flag("negate").unwrap_or(binding.negate);
    body.check()?;
    if binding.group.is_none() && binding.user.is_none() {
        return Err(Refusal::invalid(
            json!({ "non_field_errors": ["One of 'policy', 'group', 'user' must be set."] }),
        ));
    }
    Ok(())
}

/// As the API shows a binding.
fn view(pk: Uuid, binding: &Binding) -> Value {
    json!({
        "pk": pk,
        "policy": null,
        "group": binding.group,
        "user": binding.user,
        "target": binding.target,
        "negate": binding.negate,
        "enabled": binding.enabled,
        "order": 0,
        "timeout": 30,
        "failure_result": false,
        "expires": null,
        "expiring": false,
    })
}
