//! Data that the setup checks read: version, permissions of the account's role, brand, applications and their providers.

use std::collections::{BTreeMap, BTreeSet};

use axum::{
    Json,
    extract::{Query, State as Shared},
    response::Response,
};
use dezky_upstreams::clients::authentik::Authentik;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    Sim, State,
    wire::{Params, Refusal, first, page},
};
use crate::issuer::APPLICATIONS;

/// Id of the role of the token's account.
pub(super) const ROLE: &str = "d254db3d-5d07-42e2-ab3b-3c6e8977e9ce";

/// Set-up of the server, as an administrator made it.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Release.
    pub version: String,
    /// Permissions of the account's role, as `application_label.code_name`.
    pub permissions: BTreeSet<String>,
    /// OAuth providers by the slug of their application.
    pub providers: BTreeMap<String, Provider>,
}

/// OAuth provider of an application.
#[derive(Debug, Clone)]
pub struct Provider {
    /// Source of the subject: `user_uuid`, `hashed_user_id`, ...
    pub sub_mode: String,
    /// `per_provider` or `global`.
    pub issuer_mode: String,
    /// Whether tokens are signed with a key pair instead of the client's secret.
    pub has_signing_key: bool,
    /// Allowed grants.
    pub grant_types: Vec<String>,
    /// Scopes of its built-in scope mappings.
    pub scopes: Vec<String>,
}

impl Default for Setup {
    /// The set-up of the blueprint.
    fn default() -> Self {
        let for_checks = "authentik_rbac.view_system_info";
        let permissions = Authentik::needed_permissions().chain([for_checks]);
        Self {
            version: "2026.8.3".to_owned(),
            permissions: permissions.map(str::to_owned).collect(),
            providers: APPLICATIONS
                .map(|slug| (slug.to_owned(), Provider::default()))
                .into(),
        }
    }
}

impl Default for Provider {
    fn default() -> Self {
        Self {
            sub_mode: "user_uuid".to_owned(),
            issuer_mode: "per_provider".to_owned(),
            has_signing_key: true,
            grant_types: ["authorization_code", "refresh_token"]
                .map(str::to_owned)
                .into(),
            scopes: ["openid", "email", "profile", "offline_access"]
                .map(str::to_owned)
                .into(),
        }
    }
}

impl Sim {
    pub(super) fn require(&self, permission: &str) -> Result<(), Refusal> {
        if self.state().setup.permissions.contains(permission) {
            return Ok(());
        }
        Err(Refusal::detail(
            StatusCode::FORBIDDEN,
            "You do not have permission to perform this action.",
        ))
    }
}

pub(super) async fn version(Shared(sim): Shared<Sim>) -> Result<Json<Value>, Refusal> {
    sim.require("authentik_rbac.view_system_info")?;
    let version = sim.state().setup.version.clone();
    Ok(Json(json!({
        "version_current": version,
        "version_latest": version,
        "version_latest_valid": true,
        "build_hash": "",
        "outdated": false,
        "outpost_outdated": false,
    })))
}

/// Readable by every account.
pub(super) async fn permissions(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    let state = sim.state();
    match first(&params, "role").filter(|_| !state.ignores_filters) {
        Some(role) if role != ROLE => return Err(Refusal::no_choice("role", role)),
        _ => {}
    }
    let granted: Vec<&String> = state.setup.permissions.iter().collect();
    page(&params, &granted, |permission| {
        let (app_label, codename) = permission.split_once('.').unwrap_or_default();
        json!({
            "id": 1,
            "name": codename.replace('_', " "),
            "codename": codename,
            "model": codename.split('_').next_back(),
            "app_label": app_label,
            "app_label_verbose": app_label,
            "model_verbose": codename,
        })
    })
}

/// Readable without an account.
pub(super) async fn brand(Shared(sim): Shared<Sim>) -> Json<Value> {
    let flow = sim
        .state()
        .has_recovery_flow
        .then_some("default-recovery-flow");
    Json(json!({
        "matched_domain": "authentik-default",
        "branding_title": "authentik",
        "flow_authentication": "default-authentication-flow",
        "flow_invalidation": "default-invalidation-flow",
        "flow_recovery": flow,
        "default_locale": "",
    }))
}

/// An application of the portals. One that the account may not see looks missing.
pub(super) fn application(state: &State, slug: &str) -> Result<Value, Refusal> {
    let visible = state.may("authentik_core.view_application");
    let mut slugs = state.setup.providers.keys();
    let position = slugs.position(|known| known == slug);
    match position.filter(|_| visible) {
        Some(position) => Ok(json!({
            "pk": "42bdbec9-c5cf-4987-a947-2e39d5c32fc7",
            "name": slug,
            "slug": slug,
            "provider": position + 1,
            "policy_engine_mode": "any",
        })),
        None => Err(Refusal::missing("Application")),
    }
}

/// The provider of an application of the portals.
pub(super) fn provider(state: &State, pk: i64) -> Result<Value, Refusal> {
    let mut providers = state.setup.providers.iter();
    let position = pk.checked_sub(1).and_then(|it| usize::try_from(it).ok());
    let (slug, provider) = position
        .and_then(|position| providers.nth(position))
        .ok_or_else(|| Refusal::missing("OAuth2Provider"))?;
    let key = "741bc688-0161-4652-ae43-59462c7e4bd6";
    let mappings = state.apps.references.scope_mappings.iter();
    let attached = mappings.filter(|(scope, _)| provider.scopes.contains(scope));
    let attached: Vec<&str> = attached.map(|(_, pk)| pk.as_str()).collect();
    Ok(json!({
        "pk": pk,
        "name": slug,
        "assigned_application_slug": slug,
        "client_type": "confidential",
        "client_id": slug,
        "client_secret": "sim-client-secret",
        "grant_types": provider.grant_types,
        "access_token_validity": "minutes=5",
        "property_mappings": attached,
        "signing_key": provider.has_signing_key.then_some(key),
        "encryption_key": null,
        "sub_mode": provider.sub_mode,
        "issuer_mode": provider.issuer_mode,
    }))
}
