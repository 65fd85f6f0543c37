//! The documents of a scenario as a run leaves them: what must be equal with and without failures.

use serde_json::{Value, json};

use crate::{scenarios::Scene, world::World};

/// The member, if the job is about one.
pub(super) async fn member(world: &World, scene: &Scene) -> Value {
    match &scene.member {
        Some(member) => world.member_state(member.id).await,
        None => Value::Null,
    }
}

/// The claim, if it exists.
pub(super) async fn claim(world: &World, scene: &Scene) -> Value {
    let Some(claim) = &scene.claim else {
        return Value::Null;
    };
    let claim = world.find_claim(claim).await;
    claim.map_or(Value::Null, |claim| {
        let conditions = claim.conditions.iter();
        json!({
            "status": claim.status,
            "removing": claim.removing,
            "conditions": conditions
                .map(|it| (&it.kind, it.status, &it.reason))
                .collect::<Vec<_>>(),
            "expected": claim.expected.iter().map(|record| record.check).collect::<Vec<_>>(),
        })
    })
}

/// The app, if it exists.
pub(super) async fn app(world: &World, scene: &Scene) -> Value {
    let Some(app) = &scene.app else {
        return Value::Null;
    };
    let app = world.find_app(app).await;
    app.map_or(Value::Null, |app| {
        let conditions = app.conditions.iter();
        json!({
            "status": app.status,
            "refs": [
                app.authentik.provider_pk.is_some(),
                app.authentik.application_pk.is_some(),
                app.authentik.binding_pk.is_some(),
            ],
            "conditions": conditions
                .map(|it| (&it.kind, it.status, &it.reason))
                .collect::<Vec<_>>(),
        })
    })
}
