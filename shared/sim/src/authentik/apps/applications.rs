//! `/core/applications/`: the users' side of apps.

use axum::{
    Json,
    extract::{Path, State as Shared},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde_json::{Value, json};

use super::{Application, fields};
use crate::authentik::{
    Sim, State, setup,
    wire::{Body, Refusal},
};

/// Words of the path that no slug may be.
const RESERVED: [&str; 8] = [
    "authorize",
    "token",
    "device",
    "userinfo",
    "introspect",
    "revoke",
    "jwks",
    "end-session",
];
const PLAIN: [&str; 5] = [
    "open_in_new_tab",
    "meta_launch_url",
    "meta_icon",
    "meta_description",
    "meta_publisher",
];

pub(in crate::authentik) async fn create(
    Shared(sim): Shared<Sim>,
    mut body: Body,
) -> Result<Response, Refusal> {
    sim.require("authentik_core.add_application")?;
    let mut state = sim.state();
    body.require(&["name", "slug"]);
    let slug = body.text_not_blank("slug").unwrap_or_default();
    check_slug(&state, &slug, &mut body);
    let mut application = Application::new(&slug);
    apply(&state, &mut application, &mut body)?;
    let shown = view(&slug, &application);
    let is_attached = application.provider.is_some();
    state.apps.applications.insert(slug.clone(), application);
    state.log_openings(if is_attached {
        "create_attached_application"
    } else {
        "create_application"
    });
    sim.effects.record("create_application", slug);
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

/// An application of a tenant, or one of the portals. One that the account may not see looks missing.
pub(in crate::authentik) async fn read(
    Shared(sim): Shared<Sim>,
    Path(slug): Path<String>,
) -> Result<Json<Value>, Refusal> {
    let state = sim.state();
    match state.apps.applications.get(&slug) {
        Some(application) if state.may("authentik_core.view_application") => {
            Ok(Json(view(&slug, application)))
        }
        _ => setup::application(&state, &slug).map(Json),
    }
}

pub(in crate::authentik) async fn update(
    Shared(sim): Shared<Sim>,
    Path(slug): Path<String>,
    mut body: Body,
) -> Result<Json<Value>, Refusal> {
    sim.require("authentik_core.change_application")?;
    let mut state = sim.state();
    let before = find(&state, &slug)?.clone();
    let mut application = before.clone();
    apply(&state, &mut application, &mut body)?;
    let shown = view(&slug, &application);
    let operation = match (before.provider, application.provider) {
        (before, after) if before == after => "update_application",
        (_, Some(_)) => "attach_provider",
        (_, None) => "detach_provider",
    };
    if application != before {
        sim.effects.record(operation, slug.as_str());
    }
    state.apps.applications.insert(slug, application);
    state.log_openings(operation);
    Ok(Json(shown))
}

/// Deletes the bindings too, and leaves the provider.
pub(in crate::authentik) async fn remove(
    Shared(sim): Shared<Sim>,
    Path(slug): Path<String>,
) -> Result<StatusCode, Refusal> {
    sim.require("authentik_core.delete_application")?;
    let mut state = sim.state();
    let application = find(&state, &slug)?.clone();
    state.apps.applications.remove(&slug);
    let target = application.pk;
    state
        .apps
        .bindings
        .retain(|_, binding| binding.target != target);
    state.log_openings("delete_application");
    sim.effects.record("delete_application", slug);
    Ok(StatusCode::NO_CONTENT)
}

fn find<'a>(state: &'a State, slug: &str) -> Result<&'a Application, Refusal> {
    let application = state.apps.applications.get(slug);
    application.ok_or_else(|| Refusal::missing("Application"))
}

fn check_slug(state: &State, slug: &str, body: &mut Body) {
    let is_valid = slug
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if !is_valid {
        let text = "Enter a valid “slug” consisting of letters, numbers, underscores or hyphens.";
        body.error::<()>("slug", text);
    } else if RESERVED.contains(&slug) {
        let text = "This slug is reserved and cannot be used.";
        body.error::<()>("slug", text);
    } else if state.apps.applications.contains_key(slug) || state.setup.providers.contains_key(slug)
    {
        body.error::<()>("slug", "Application with this slug already exists.");
    }
}

fn apply(state: &State, application: &mut Application, body: &mut Body) -> Result<(), Refusal> {
    if let Some(name) = body.text_not_blank("name") {
        application.fields.insert("name".to_owned(), name.into());
    }
    fields::copy(body, &PLAIN, &mut application.fields);
    let modes = ["all", "any"];
    fields::choice(body, "policy_engine_mode", &modes, &mut application.fields);
    match body.members().get("provider").cloned() {
        None => {}
        Some(Value::Null) => application.provider = None,
        Some(provider) => {
            let pk = provider.as_i64();
            let known = pk.filter(|pk| state.apps.providers.contains_key(pk));
            let taken = known.and_then(|pk| state.apps.application_of(pk));
            if known.is_none() {
                let text = format!("Invalid pk \"{provider}\" - object does not exist.");
                body.error::<()>("provider", &text);
            } else if taken.is_some_and(|(_, other)| other.pk != application.pk) {
                let text = "Application with this provider already exists.";
                body.error::<()>("provider", text);
            }
            application.provider = known;
        }
    }
    body.check()
}

/// As the API shows an application.
fn view(slug: &str, application: &Application) -> Value {
    let mut shown = application.fields.clone();
    let launch_url = shown.get("meta_launch_url").cloned();
    let launch_url = launch_url.filter(|url| url != "");
    shown.extend([
        ("pk".to_owned(), json!(application.pk)),
        ("pbm_uuid".to_owned(), json!(application.pk)),
        ("slug".to_owned(), slug.into()),
        ("provider".to_owned(), application.provider.into()),
        ("backchannel_providers".to_owned(), json!([])),
        ("launch_url".to_owned(), launch_url.unwrap_or(Value::Null)),
    ]);
    shown.into()
}
