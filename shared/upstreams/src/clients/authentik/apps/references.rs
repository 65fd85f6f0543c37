//! Objects that a provider refers to: flows, the signing key and scope mappings, found by their configured names.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::clients::{
    ClientError,
    authentik::{Authentik, failed},
    setup::SetupCheck,
};
use dezky_shared::app::Scope;

/// Flow in which a signed-in user authorizes an app without being asked.
const AUTHORIZATION_FLOW: &str = "default-provider-authorization-implicit-consent";
/// Flow of a sign-out.
const INVALIDATION_FLOW: &str = "default-provider-invalidation-flow";
/// Prefix of the `managed` key of a built-in scope mapping.
const MANAGED_SCOPE: &str = "goauthentik.io/providers/oauth2/scope-";
/// `managed` key of the mapping that apps have instead of the built-in one of the scope `profile`: that one tells each app
/// all groups of a person, which name the person's other tenants. `.ops/authentik/blueprint.yaml` creates it.
pub const APP_PROFILE: &str = "dezky/scope-app-profile";
/// Attribute that the mapping's expression has to read: the bindings of the app, whose groups alone it tells.
const BINDINGS: &str = "provider.application.bindings";

/// Ids of the objects that every provider of ours refers to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppReferences {
    pub(super) authorization_flow: String,
    pub(super) invalidation_flow: String,
    pub(super) signing_key: String,
    /// Scope mapping of each scope.
    scopes: BTreeMap<Scope, String>,
}

impl AppReferences {
    /// Ids of the mappings of these scopes.
    pub(super) fn mappings(&self, scopes: &[Scope]) -> Vec<&str> {
        let ids = scopes.iter().filter_map(|scope| self.scopes.get(scope));
        ids.map(String::as_str).collect()
    }
}

impl Authentik {
    /// Looks up the objects that providers refer to. A run keeps the result for all of its apps.
    pub async fn app_references(&self) -> Result<AppReferences, ClientError> {
        Ok(AppReferences {
            authorization_flow: self.flow(AUTHORIZATION_FLOW).await?,
            invalidation_flow: self.flow(INVALIDATION_FLOW).await?,
            signing_key: self.signing_key().await?,
            scopes: self.scope_mappings().await?,
        })
    }

    /// Checks each object that providers refer to: without one of them, no app is provisioned.
    pub(in crate::clients::authentik) async fn check_app_references(&self) -> [SetupCheck; 4] {
        let key = self.signing_key().await.map(drop);
        let authorization = self.flow(AUTHORIZATION_FLOW).await.map(drop);
        let invalidation = self.flow(INVALIDATION_FLOW).await.map(drop);
        let mappings = self.check_scope_mappings().await;
        [
            check("signing key of apps", &self.signing_key_name, key),
            check(
                "authorization flow of apps",
                AUTHORIZATION_FLOW,
                authorization,
            ),
            check("invalidation flow of apps", INVALIDATION_FLOW, invalidation),
            check("scope mappings of apps", APP_PROFILE, mappings),
        ]
    }

    async fn flow(&self, slug: &str) -> Result<String, ClientError> {
        let flows: Vec<Flow> = self
            .list("list_flows", "/flows/instances/", &[("slug", slug)])
            .await?;
        let flow = flows.into_iter().find(|flow| flow.slug == slug);
        let missing = || missing("list_flows", &format!("the flow {slug}"));
        Ok(flow.ok_or_else(missing)?.pk)
    }

    /// The RSA key pair of the configured name: tokens signed with an EC key, or with the secret, are not what relying
    /// parties expect.
    async fn signing_key(&self) -> Result<String, ClientError> {
        let name = self.signing_key_name.as_str();
        let filter = [("has_key", "true"), ("name", name)];
        let keys: Vec<KeyPair> = self
            .list("list_key_pairs", "/crypto/certificatekeypairs/", &filter)
            .await?;
        let is_ours = |key: &KeyPair| {
            let is_rsa = key.key_type.as_deref().is_none_or(|kind| kind == "rsa");
            key.name == name && key.private_key_available && is_rsa
        };
        let missing = || {
            missing(
                "list_key_pairs",
                &format!("an RSA key pair named {name:?} (AUTHENTIK_SIGNING_KEY_NAME)"),
            )
        };
        Ok(keys.into_iter().find(is_ours).ok_or_else(missing)?.pk)
    }

    /// All mappings exist, and that of the scope `profile` tells an app its own groups alone.
    async fn check_scope_mappings(&self) -> Result<(), ClientError> {
        self.scope_mappings().await?;
        let filter = [("managed", APP_PROFILE)];
        let found = self.list_scope_mappings(&filter).await?;
        let is_restricted = found.iter().any(|mapping| {
            mapping.managed.as_deref() == Some(APP_PROFILE) && mapping.expression.contains(BINDINGS)
        });
        if is_restricted {
            return Ok(());
        }
        let object =
            format!("a scope mapping {APP_PROFILE} that tells apps their own groups alone");
        Err(missing("list_scope_mappings", &object))
    }

    /// The scope mappings that match a filter.
    pub(in crate::clients::authentik) async fn list_scope_mappings(
        &self,
        filter: &[(&str, &str)],
    ) -> Result<Vec<ScopeMapping>, ClientError> {
        let path = "/propertymappings/provider/scope/";
        self.list("list_scope_mappings", path, filter).await
    }

    async fn scope_mappings(&self) -> Result<BTreeMap<Scope, String>, ClientError> {
        let managed = Scope::ALL.map(|scope| (scope, managed_key(scope)));
        let filter: Vec<(&str, &str)> = managed
            .iter()
            .map(|(_, key)| ("managed", key.as_str()))
            .collect();
        let found = self.list_scope_mappings(&filter).await?;
        managed
            .iter()
            .map(|(scope, key)| {
                let mut found = found.iter();
                let mapping = found.find(|it| it.managed.as_ref() == Some(key));
                let mapping = mapping.ok_or_else(|| {
                    missing("list_scope_mappings", &format!("the scope mapping {key}"))
                })?;
                Ok((*scope, mapping.pk.clone()))
            })
            .collect()
    }
}

/// `managed` key of the mapping of a scope.
fn managed_key(scope: Scope) -> String {
    match scope {
        Scope::Profile => APP_PROFILE.to_owned(),
        Scope::OpenId | Scope::Email | Scope::OfflineAccess => {
            format!("{MANAGED_SCOPE}{}", scope.name())
        }
    }
}

/// A person has to create the object, or to let our account see it.
fn missing(operation: &'static str, object: &str) -> ClientError {
    let detail = format!("{object} does not exist, or our account may not view it");
    ClientError::Permission(failed(operation, &detail))
}

/// Setup check of an object, which jobs cannot use either where our account may not view it.
fn check(name: &str, object: &str, found: Result<(), ClientError>) -> SetupCheck {
    match found {
        Ok(()) => SetupCheck::ok(name, object),
        Err(error @ ClientError::Permission(_)) => {
            let remedy = "without it no app is provisioned; create it, or apply .ops/authentik/blueprint.yaml";
            SetupCheck::failed(name, format!("{error}; {remedy}"))
        }
        Err(error) => SetupCheck::of_error(name, &error, "check again later"),
    }
}

#[derive(Deserialize)]
struct Flow {
    pk: String,
    slug: String,
}

#[derive(Deserialize)]
struct KeyPair {
    pk: String,
    name: String,
    #[serde(default)]
    private_key_available: bool,
    key_type: Option<String>,
}

/// Scope mapping as the server has it.
#[derive(Deserialize)]
pub(in crate::clients::authentik) struct ScopeMapping {
    pub(in crate::clients::authentik) pk: String,
    pub(in crate::clients::authentik) managed: Option<String>,
    #[serde(default)]
    pub(in crate::clients::authentik) scope_name: String,
    /// Python expression that yields the claims.
    #[serde(default)]
    pub(in crate::clients::authentik) expression: String,
}
