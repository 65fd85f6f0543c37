//! Objects that providers refer to, as a fresh installation has them: flows, key pairs and scope mappings.

use axum::{
    extract::{Query, State as Shared},
    response::Response,
};
use dezky_upstreams::clients::authentik::{APP_PROFILE, DEFAULT_SIGNING_KEY};
use serde_json::{Value, json};

use crate::authentik::{
    Sim,
    wire::{Params, Refusal, all, first, page},
};

/// Expression of the built-in mapping of the scope `profile`, shortened.
const ALL_GROUPS: &str =
    r#"return {"groups": [group.name for group in request.user.groups.all()]}"#;

/// Flows, key pairs and scope mappings, which a test may change.
#[derive(Debug, Clone)]
pub struct References {
    /// Slug and primary key of each flow.
    pub flows: Vec<(String, String)>,
    /// Name and primary key of each RSA key pair.
    pub key_pairs: Vec<(String, String)>,
    /// Scope and primary key of each built-in scope mapping.
    pub scope_mappings: Vec<(String, String)>,
    /// The mapping of the scope `profile` that the blueprint creates for apps.
    pub app_profile: Option<AppProfile>,
}

/// Scope mapping `profile` with the groups that an app is bound to alone.
#[derive(Debug, Clone)]
pub struct AppProfile {
    /// Primary key.
    pub pk: String,
    /// Python expression. The simulator does what the blueprint's does, whatever this says.
    pub expression: String,
}

impl Default for References {
    fn default() -> Self {
        let pairs = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter();
            pairs
                .map(|(name, pk)| ((*name).to_owned(), (*pk).to_owned()))
                .collect()
        };
        Self {
            flows: pairs(&[
                (
                    "default-provider-authorization-implicit-consent",
                    "bdf81bb2-fec4-454f-a146-ec877113bd9d",
                ),
                (
                    "default-provider-invalidation-flow",
                    "9b315a7c-1e02-4bd7-aea2-e9417fd0d10e",
                ),
            ]),
            key_pairs: pairs(&[
                ("another key", "0e5b5d4c-6f3a-4a86-9a39-7b3f0d3c3a52"),
                (DEFAULT_SIGNING_KEY, "741bc688-0161-4652-ae43-59462c7e4bd6"),
            ]),
            scope_mappings: pairs(&[
                ("email", "db997d36-057f-41c0-aab3-b9ddf1007486"),
                ("openid", "1f87830d-0462-4df6-aae1-acecfe1dd89a"),
                ("offline_access", "4481d48d-eb4a-40e1-ac9e-351c39019ef6"),
                ("profile", "f489c2d4-6a08-4cfc-a4b0-757573966ac2"),
            ]),
            app_profile: Some(AppProfile {
                pk: "0e4b9a75-42f7-4f1d-8d2a-5a3f0c7d9b61".to_owned(),
                expression: "bound = [b.group_id for b in provider.application.bindings.all()]"
                    .to_owned(),
            }),
        }
    }
}

impl References {
    /// Scopes of these mappings.
    pub(super) fn scopes(&self, mappings: &[Value]) -> Vec<&str> {
        let built_in = self.scope_mappings.iter();
        let built_in = built_in.map(|(scope, pk)| (scope.as_str(), pk));
        let of_apps = self.app_profile.iter();
        built_in
            .chain(of_apps.map(|mapping| ("profile", &mapping.pk)))
            .filter(|(_, pk)| mappings.iter().any(|it| it == *pk))
            .map(|(scope, _)| scope)
            .collect()
    }

    /// Whether these mappings contain the built-in one of the scope `profile`, and that of apps.
    pub(super) fn profiles(&self, mappings: &[Value]) -> (bool, bool) {
        let contains = |pk: &String| mappings.iter().any(|it| it == pk);
        let mut built_in = self.scope_mappings.iter();
        (
            built_in.any(|(scope, pk)| scope == "profile" && contains(pk)),
            self.app_profile.as_ref().is_some_and(|it| contains(&it.pk)),
        )
    }

    pub(super) fn is_flow(&self, pk: &str) -> bool {
        self.flows.iter().any(|(_, flow)| flow == pk)
    }

    pub(super) fn is_mapping(&self, pk: &Value) -> bool {
        let of_apps = self.app_profile.iter().map(|mapping| &mapping.pk);
        let built_in = self.scope_mappings.iter().map(|(_, mapping)| mapping);
        built_in.chain(of_apps).any(|mapping| pk == mapping)
    }
}

pub(in crate::authentik) async fn flows(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    sim.require("authentik_flows.view_flow")?;
    let state = sim.state();
    let mut flows = state.apps.references.flows.clone();
    if let Some(slug) = first(&params, "slug").filter(|_| !state.ignores_filters) {
        flows.retain(|(known, _)| known == slug);
    }
    page(
        &params,
        &flows,
        |(slug, pk)| json!({ "pk": pk, "name": slug, "slug": slug, "designation": "authorization" }),
    )
}

pub(in crate::authentik) async fn key_pairs(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    sim.require("authentik_crypto.view_certificatekeypair")?;
    let state = sim.state();
    let mut keys = state.apps.references.key_pairs.clone();
    if let Some(name) = first(&params, "name").filter(|_| !state.ignores_filters) {
        keys.retain(|(known, _)| known == name);
    }
    page(&params, &keys, |(name, pk)| {
        json!({
            "pk": pk,
            "name": name,
            "private_key_available": true,
            "key_type": "rsa",
            "managed": null,
        })
    })
}

pub(in crate::authentik) async fn scope_mappings(
    Shared(sim): Shared<Sim>,
    Query(params): Query<Params>,
) -> Result<Response, Refusal> {
    sim.require("authentik_providers_oauth2.view_scopemapping")?;
    let state = sim.state();
    let references = &state.apps.references;
    let built_in = references.scope_mappings.iter().map(|(scope, pk)| {
        json!({
            "pk": pk,
            "managed": key(scope),
            "name": format!("authentik default OAuth Mapping: OpenID '{scope}'"),
            "scope_name": scope,
            "expression": if scope == "profile" { ALL_GROUPS } else { "return {}" },
        })
    });
    let of_apps = references.app_profile.iter().map(|mapping| {
        json!({
            "pk": mapping.pk,
            "managed": APP_PROFILE,
            "name": APP_PROFILE,
            "scope_name": "profile",
            "expression": mapping.expression,
        })
    });
    let mut mappings: Vec<Value> = built_in.chain(of_apps).collect();
    let managed: Vec<&str> = all(&params, "managed").collect();
    if !managed.is_empty() && !state.ignores_filters {
        mappings.retain(|mapping| managed.iter().any(|key| mapping["managed"] == **key));
    }
    page(&params, &mappings, Value::clone)
}

fn key(scope: &str) -> String {
    format!("goauthentik.io/providers/oauth2/scope-{scope}")
}
