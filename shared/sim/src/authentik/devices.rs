//! `/authenticators/admin/all/`: MFA devices.

use axum::{
    Json,
    extract::{Query, State as Shared},
};
use serde_json::{Value, json};

use super::{
    Sim,
    wire::{Params, first},
};

/// Creation time of every device.
const CREATED: &str = "2026-10-01T08:00:00.000000Z";

/// A bare list without pages. Empty for an unknown user; without a user filter it lists the devices of all users.
pub(super) async fn list(Shared(sim): Shared<Sim>, Query(params): Query<Params>) -> Json<Value> {
    let state = sim.state();
    let user = first(&params, "user").filter(|_| !state.ignores_filters);
    let devices = state
        .devices
        .iter()
        .filter(|(_, device)| user.is_none_or(|user| device.user.to_string() == user));
    let views: Vec<Value> = devices
        .map(|(pk, device)| {
            let module = match device.r#type.strip_suffix("Device") {
                Some(kind) => format!("authentik_stages_authenticator_{}", kind.to_lowercase()),
                None => "authentik_stages_authenticator".to_owned(),
            };
            let name = device.r#type.replace("Device", " Device");
            json!({
                "verbose_name": name,
                "verbose_name_plural": format!("{name}s"),
                "meta_model_name": format!("{module}.{}", device.r#type.to_lowercase()),
                "pk": pk.to_string(),
                "name": name,
                "type": format!("{module}.{}", device.r#type),
                "confirmed": device.confirmed,
                "created": CREATED,
                "last_updated": CREATED,
                "last_used": null,
                "extra_description": "",
                "external_id": null,
            })
        })
        .collect();
    Json(views.into())
}
