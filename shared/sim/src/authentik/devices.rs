//! `/authenticators/admin/`: MFA devices.
//!
//! Devices of a type that the account may not view are omitted from lists, and look missing.

use axum::{
    Json,
    extract::{Path, Query, State as Shared},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Device, Sim, State,
    wire::{Params, Refusal, first},
};

impl Device {
    /// Segment of its type in paths: `totp`.
    fn segment(&self) -> String {
        let class = self.r#type.strip_suffix("Device").unwrap_or(&self.r#type);
        class.to_lowercase()
    }

    fn module(&self) -> String {
        format!("authentik_stages_authenticator_{}", self.segment())
    }

    /// Name of the permission for an action on devices of its type.
    fn permission(&self, action: &str) -> String {
        let model = self.r#type.to_lowercase();
        format!("{}.{action}_{model}", self.module())
    }
}

impl State {
    /// The device of this type with this id, unless it may not be viewed.
    fn viewable_device(&self, segment: &str, id: &str) -> Result<(i64, &Device), Refusal> {
        let found = id
            .parse()
            .ok()
            .and_then(|pk: i64| Some((pk, self.devices.get(&pk)?)))
            .filter(|(_, device)| device.segment() == segment)
            .filter(|(_, device)| self.may(&device.permission("view")));
        found.ok_or_else(|| Refusal::missing("Device"))
    }
}

/// A bare list without pages. Empty for an unknown user; without a user filter it lists the devices of all users.
pub(super) async fn list(Shared(sim): Shared<Sim>, Query(params): Query<Params>) -> Json<Value> {
    let state = sim.state();
    let user = first(&params, "user").filter(|_| !state.ignores_filters);
    let devices = state
        .devices
        .iter()
        .filter(|(_, device)| user.is_none_or(|user| device.user.to_string() == user))
        .filter(|(_, device)| state.may(&device.permission("view")));
    let views: Vec<Value> = devices
        .map(|(pk, device)| {
            let module = device.module();
            let name = device.r#type.replace("Device", " Device");
            json!({
                "verbose_name": name,
                "verbose_name_plural": format!("{name}s"),
                "meta_model_name": format!("{module}.{}", device.r#type.to_lowercase()),
                "pk": pk.to_string(),
                "name": name,
                "type": format!("{module}.{}", device.r#type),
                "confirmed": device.confirmed,
                "created": device.created,
                "last_updated": device.created,
                "last_used": null,
                "extra_description": "",
                "external_id": null,
            })
        })
        .collect();
    Json(views.into())
}

/// Unlike an item of the list, it names its user.
pub(super) async fn read(
    Shared(sim): Shared<Sim>,
    Path((segment, id)): Path<(String, String)>,
) -> Result<Json<Value>, Refusal> {
    let state = sim.state();
    let (pk, device) = state.viewable_device(&segment, &id)?;
    let user = state.users.get(&device.user);
    Ok(Json(json!({
        "pk": pk,
        "name": device.r#type,
        "user": user.map(|user| json!({
            "pk": user.pk,
            "username": user.username,
            "name": user.name,
            "is_active": user.is_active,
        })),
    })))
}

pub(super) async fn remove(
    Shared(sim): Shared<Sim>,
    Path((segment, id)): Path<(String, String)>,
) -> Result<StatusCode, Refusal> {
    let mut state = sim.state();
    let (pk, device) = state.viewable_device(&segment, &id)?;
    if !state.may(&device.permission("delete")) {
        let detail = "You do not have permission to perform this action.";
        return Err(Refusal::detail(StatusCode::FORBIDDEN, detail));
    }
    let user = state.users.get(&device.user);
    let user = user.map_or_else(String::new, |user| user.username.clone());
    let key = format!("{user} {}", device.r#type);
    state.devices.remove(&pk);
    sim.effects.record("delete_device", key);
    Ok(StatusCode::NO_CONTENT)
}
