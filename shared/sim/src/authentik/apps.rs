//! Apps: `OAuth2` providers, applications and policy bindings over the REST API, and the OIDC endpoints of an application
//! with a provider.
//!
//! - A provider that is created without `grant_types` has none and refuses every request.
//! - Client secrets are readable through the API.
//! - Bindings have no uniqueness, and an application without an enabled binding **is open to every user**. Each time a
//!   write leaves an attached application open, it is [logged](super::AuthentikSim::openings).
//! - Deleting an application or a group deletes its bindings; deleting a provider detaches it and ends its tokens.

mod access;
pub(super) mod applications;
pub(super) mod bindings;
mod fields;
pub(super) mod oidc;
pub(super) mod providers;
pub(super) mod references;
mod signing;
pub(super) mod tokens;

use std::collections::{BTreeMap, BTreeSet};

use http::Method;
use serde_json::{Map, Value, json};
use uuid::Uuid;

pub(crate) use self::tokens::challenge_of;
pub use self::{
    access::Opening,
    oidc::SESSION_COOKIE,
    references::{AppProfile, References},
};
use self::{oidc::Code, signing::Signer};
use super::State;

/// State of all apps.
#[derive(Debug, Default)]
pub struct Apps {
    /// `OAuth2` providers by primary key.
    pub providers: BTreeMap<i64, OAuthProvider>,
    /// Applications by slug.
    pub applications: BTreeMap<String, Application>,
    /// Policy bindings by primary key.
    pub bindings: BTreeMap<Uuid, Binding>,
    /// Flows, key pairs and scope mappings.
    pub references: References,
    openings: Vec<Opening>,
    /// Slugs of the applications that are open now.
    open: BTreeSet<String>,
    codes: BTreeMap<String, Code>,
    tokens: BTreeMap<String, tokens::Issued>,
    signer: Signer,
}

/// An `OAuth2` provider.
#[derive(Debug, Clone, PartialEq)]
pub struct OAuthProvider {
    /// Primary key.
    pub pk: i64,
    /// Fields as the API shows them, without those that follow from other objects.
    pub fields: Map<String, Value>,
}

/// An application.
#[derive(Debug, Clone, PartialEq)]
pub struct Application {
    /// Primary key.
    pub pk: Uuid,
    /// Primary key of the attached provider.
    pub provider: Option<i64>,
    /// Further fields as the API shows them.
    pub fields: Map<String, Value>,
}

/// A policy binding of a group, a user or a policy to an application.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// Primary key of the application.
    pub target: Uuid,
    /// Group whose members pass.
    pub group: Option<Uuid>,
    /// User who passes.
    pub user: Option<i64>,
    /// Whether the binding is in force.
    pub enabled: bool,
    /// Whether its result is inverted.
    pub negate: bool,
}

impl OAuthProvider {
    /// The text in this field; empty without one.
    pub fn text(&self, field: &str) -> &str {
        let value = self.fields.get(field).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// Primary keys of the scope mappings.
    fn mappings(&self) -> &[Value] {
        let mappings = self.fields.get("property_mappings");
        let mappings = mappings.and_then(Value::as_array);
        mappings.map_or(&[][..], Vec::as_slice)
    }

    /// Whether the list in this field contains `item`.
    fn lists(&self, field: &str, item: &str) -> bool {
        let items = self.fields.get(field).and_then(Value::as_array);
        items.is_some_and(|items| items.iter().any(|it| it == item))
    }
}

impl Application {
    /// An application without a provider.
    fn new(slug: &str) -> Self {
        let fields = json!({
            "name": slug,
            "open_in_new_tab": false,
            "meta_launch_url": "",
            "meta_icon": "",
            "meta_description": "",
            "meta_publisher": "",
            "policy_engine_mode": "any",
            "group": "",
            "meta_hide": false,
        });
        Self {
            pk: Uuid::new_v4(),
            provider: None,
            fields: fields.as_object().cloned().unwrap_or_default(),
        }
    }
}

impl Apps {
    /// The provider with this client id.
    pub fn provider_of(&self, client_id: &str) -> Option<&OAuthProvider> {
        let mut providers = self.providers.values();
        providers.find(|provider| provider.text("client_id") == client_id)
    }

    /// The application that a provider is attached to.
    fn application_of(&self, provider: i64) -> Option<(&String, &Application)> {
        let mut applications = self.applications.iter();
        applications.find(|(_, application)| application.provider == Some(provider))
    }

    /// Bindings of an application.
    fn bindings_of(&self, application: Uuid) -> impl Iterator<Item = &Binding> {
        let bindings = self.bindings.values();
        bindings.filter(move |binding| binding.target == application)
    }

    /// Deletes the bindings of a deleted group.
    pub(super) fn forget_group(&mut self, group: Uuid) {
        self.bindings
            .retain(|_, binding| binding.group != Some(group));
    }

    /// Applications by slug, without secrets.
    pub(super) fn snapshot(state: &State) -> Value {
        let apps = &state.apps;
        let shown = apps.applications.iter().map(|(slug, application)| {
            let groups = apps.bindings_of(application.pk).map(|binding| {
                let group = binding.group.and_then(|group| state.groups.get(&group));
                let name = group.map_or("none", |group| group.name.as_str());
                let enabled = if binding.enabled { "" } else { " (disabled)" };
                format!("{name}{enabled}")
            });
            let shown = json!({
                "attached": application.provider.is_some(),
                "fields": application.fields,
                "bindings": groups.collect::<Vec<_>>(),
            });
            (slug.clone(), shown)
        });
        Value::Object(shown.collect())
    }

    /// Providers by name, without secrets.
    pub(super) fn providers_snapshot(&self) -> Value {
        let shown = self.providers.values().map(|provider| {
            let mut fields = provider.fields.clone();
            fields.remove("client_secret");
            (provider.text("name").to_owned(), fields.into())
        });
        Value::Object(shown.collect())
    }
}

/// The operation of a request about providers, applications or bindings.
pub(super) fn operation(method: &Method, path: &[&str], body: &[u8]) -> &'static str {
    match (method.as_str(), path) {
        ("GET", ["core", _, _]) => "get_application",
        ("POST", ["core", _]) => "create_application",
        ("PATCH", ["core", _, _]) => {
            let body: Map<String, Value> = serde_json::from_slice(body).unwrap_or_default();
            match body.get("provider") {
                None => "update_application",
                Some(Value::Null) => "detach_provider",
                Some(_) => "attach_provider",
            }
        }
        ("DELETE", ["core", _, _]) => "delete_application",
        ("GET", ["providers", _]) => "list_providers",
        ("GET", ["providers", _, _]) => "get_provider",
        ("POST", ["providers", _]) => "create_provider",
        ("PATCH", ["providers", _, _]) => "update_provider",
        ("DELETE", ["providers", _, _]) => "delete_provider",
        ("GET", ["policies", _]) => "list_bindings",
        ("POST", ["policies", _]) => "create_binding",
        ("PATCH", ["policies", _, _]) => "update_binding",
        ("DELETE", ["policies", _, _]) => "delete_binding",
        _ => "unknown",
    }
}
