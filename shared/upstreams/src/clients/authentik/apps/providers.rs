//! `OAuth2` providers: the protocol side of an app, found by the client id.
//!
//! A provider's secret is readable by every account that may view it. It is compared with the desired one here, and
//! appears in no error.

use std::fmt;

use http::StatusCode;
use reqwest::Method;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Map, Value, json};

use super::{AppReferences, DesiredApp, EnsuredObject};
use crate::clients::{
    ClientError, Ensured, Mode, Operation, UpstreamResponse,
    authentik::{Authentik, error, failed},
};
use dezky_shared::app::{ClientType, GrantType, Scope};

const PATH: &str = "/providers/oauth2/";
/// Validity of refresh tokens.
const REFRESH_TOKEN_VALIDITY: &str = "days=30";
/// Fields whose lists have no order.
const SETS: [&str; 2] = ["property_mappings", "grant_types"];

/// `OAuth2` provider as the server has it.
#[derive(Clone, PartialEq)]
pub struct Provider {
    /// Number.
    pub pk: i64,
    /// Fields, with the client secret.
    fields: Map<String, Value>,
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pk, .. } = self;
        f.debug_struct("Provider")
            .field("pk", pk)
            .finish_non_exhaustive()
    }
}

impl Authentik {
    /// The provider with this client id.
    pub async fn find_provider(&self, client_id: &str) -> Result<Option<Provider>, ClientError> {
        let filter = [("client_id", client_id)];
        let mut found: Vec<Map<String, Value>> = self.list("list_providers", PATH, &filter).await?;
        found.retain(|fields| fields.get("client_id") == Some(&client_id.into()));
        match found.pop() {
            None => Ok(None),
            Some(_) if !found.is_empty() => Err(ClientError::Conflict(failed(
                "list_providers",
                "several providers have the same client id",
            ))),
            Some(fields) => Provider::of(fields).map(Some).ok_or_else(|| {
                ClientError::InvalidResponse(failed("list_providers", "a provider has no number"))
            }),
        }
    }

    /// Ensures the provider of an app, without drift. With a `secret`, also that this is its secret; a provider that is
    /// created without one gets a random, unknown secret.
    pub async fn ensure_provider(
        &self,
        desired: &DesiredApp<'_>,
        references: &AppReferences,
        secret: Option<&SecretString>,
        mode: Mode,
    ) -> Result<Ensured<EnsuredObject<Provider>>, ClientError> {
        let client_id = desired.app.client_id.as_str();
        let fields = fields(desired, references, secret);
        if let Some(provider) = self.find_provider(client_id).await? {
            return self.repair_provider(provider, fields, secret, mode).await;
        }
        let changes = vec!["provider created".to_owned()];
        if mode == Mode::DryRun {
            let value = None;
            return Ok(Ensured { value, changes });
        }
        if let Some(object) = self.create_provider(&fields, client_id, secret).await? {
            let is_new = true;
            let value = Some(EnsuredObject { object, is_new });
            return Ok(Ensured { value, changes });
        }
        // Created since the lookup, by an earlier attempt of ours whose response was lost.
        match self.find_provider(client_id).await? {
            Some(provider) => self.repair_provider(provider, fields, secret, mode).await,
            None => Err(ClientError::Permission(failed(
                "create_provider",
                "the client id or the name is taken by a provider that our account cannot see",
            ))),
        }
    }

    /// Deletes a provider. Its tokens end with it.
    pub async fn delete_provider(
        &self,
        provider: &Provider,
        mode: Mode,
    ) -> Result<Vec<String>, ClientError> {
        let path = format!("{PATH}{}/", provider.pk);
        let operation = Operation::write("delete_provider");
        let is_changed = mode == Mode::DryRun || self.delete(operation, &path).await?;
        Ok(is_changed
            .then(|| "provider deleted".to_owned())
            .into_iter()
            .collect())
    }

    /// `None` if the client id or the name is taken.
    async fn create_provider(
        &self,
        fields: &Map<String, Value>,
        client_id: &str,
        secret: Option<&SecretString>,
    ) -> Result<Option<Provider>, ClientError> {
        let mut body = fields.clone();
        body.insert("client_id".to_owned(), client_id.into());
        let request = self.http.request(Method::POST, PATH).json(&body);
        let operation = Operation::write("create_provider");
        let response = without_secret(self.send(operation, request).await?, secret);
        if error::is_duplicate(&response, "client_id") || error::is_duplicate(&response, "name") {
            return Ok(None);
        }
        self.expect(&response, StatusCode::CREATED)?;
        let unnumbered = || response.unreadable("the provider has no number");
        Provider::of(response.json()?)
            .map(Some)
            .ok_or_else(unnumbered)
    }

    /// Puts back the fields that differ from the desired ones.
    async fn repair_provider(
        &self,
        provider: Provider,
        desired: Map<String, Value>,
        secret: Option<&SecretString>,
        mode: Mode,
    ) -> Result<Ensured<EnsuredObject<Provider>>, ClientError> {
        let differing = provider.differing(desired);
        let changes = differing.keys().map(|field| match field.as_str() {
            "client_secret" => "client secret set".to_owned(),
            field => format!("provider {} set", field.replace('_', " ")),
        });
        let changes: Vec<String> = changes.collect();
        let object = if changes.is_empty() || mode == Mode::DryRun {
            provider
        } else {
            self.update_provider(provider.pk, differing, secret).await?
        };
        let is_new = false;
        let value = Some(EnsuredObject { object, is_new });
        Ok(Ensured { value, changes })
    }

    /// Updates the provider and verifies the result, because Authentik ignores unknown fields.
    async fn update_provider(
        &self,
        pk: i64,
        fields: Map<String, Value>,
        secret: Option<&SecretString>,
    ) -> Result<Provider, ClientError> {
        let path = format!("{PATH}{pk}/");
        let request = self.http.request(Method::PATCH, &path).json(&fields);
        let operation = Operation::write("update_provider");
        let response = without_secret(self.send(operation, request).await?, secret);
        self.expect(&response, StatusCode::OK)?;
        let unnumbered = || response.unreadable("the provider has no number");
        let provider = Provider::of(response.json()?).ok_or_else(unnumbered)?;
        let left = provider.differing(fields);
        if left.is_empty() {
            return Ok(provider);
        }
        let left: Vec<&str> = left.keys().map(String::as_str).collect();
        let detail = format!("the update was not applied: {}", left.join(", "));
        Err(ClientError::Rejected(response.failed(&detail)))
    }
}

impl Provider {
    fn of(fields: Map<String, Value>) -> Option<Self> {
        let pk = fields.get("pk")?.as_i64()?;
        Some(Self { pk, fields })
    }

    /// Those of the desired fields that differ. Grants do not exist in releases before 2026.5.
    fn differing(&self, mut desired: Map<String, Value>) -> Map<String, Value> {
        desired.retain(|field, desired| match self.fields.get(field) {
            None => field != "grant_types",
            Some(found) => normalised(field, found) != normalised(field, desired),
        });
        desired
    }
}

/// A field's value in a form that is equal for equivalent values: lists without order, and redirect URIs without the
/// type that the server adds.
fn normalised(field: &str, value: &Value) -> Value {
    let Value::Array(items) = value else {
        return value.clone();
    };
    let mut items = items.clone();
    if field == "redirect_uris" {
        for uri in items.iter_mut().filter_map(Value::as_object_mut) {
            if uri.get("redirect_uri_type") == Some(&"authorization".into()) {
                uri.remove("redirect_uri_type");
            }
        }
    }
    if SETS.contains(&field) {
        items.sort_by_key(Value::to_string);
    }
    items.into()
}

/// The fields that we own.
///
/// Sent even where they are the server's default: without `grant_types` a provider refuses every grant, without a signing
/// key tokens are signed with the client secret, without mappings they carry no claims, and another `issuer_mode` makes
/// tokens of all apps interchangeable.
fn fields(
    DesiredApp { slug, app }: &DesiredApp<'_>,
    references: &AppReferences,
    secret: Option<&SecretString>,
) -> Map<String, Value> {
    let grants: Vec<&str> = app
        .grant_types
        .iter()
        .copied()
        .map(GrantType::name)
        .collect();
    let uris = app.redirect_uris.iter();
    let uris: Vec<Value> = uris
        .map(|url| json!({ "matching_mode": "strict", "url": url }))
        .collect();
    let scopes: Vec<Scope> = app.scopes.clone();
    let mut fields = Map::new();
    let mut set = |field: &str, value: Value| fields.insert(field.to_owned(), value);
    // Names are unique on the server; the client id distinguishes this app from a removed one with its slug.
    set("name", format!("{slug} {}", app.client_id).into());
    set(
        "authorization_flow",
        references.authorization_flow.as_str().into(),
    );
    set(
        "invalidation_flow",
        references.invalidation_flow.as_str().into(),
    );
    set("client_type", app.client_type.name().into());
    set("grant_types", grants.into());
    set("redirect_uris", uris.into());
    set("property_mappings", references.mappings(&scopes).into());
    set("signing_key", references.signing_key.as_str().into());
    set("encryption_key", Value::Null);
    set("sub_mode", "user_uuid".into());
    set("issuer_mode", "per_provider".into());
    set("include_claims_in_id_token", true.into());
    let minutes = format!("minutes={}", app.access_token_minutes);
    set("access_token_validity", minutes.into());
    set("refresh_token_validity", REFRESH_TOKEN_VALIDITY.into());
    if let Some(secret) = secret.filter(|_| app.client_type == ClientType::Confidential) {
        set("client_secret", secret.expose_secret().into());
    }
    fields
}

/// The response with every copy of the secret masked, for the error that may quote it. A successful response is left as it
/// is.
fn without_secret(
    mut response: UpstreamResponse,
    secret: Option<&SecretString>,
) -> UpstreamResponse {
    if let Some(secret) = secret.filter(|_| !response.status.is_success()) {
        let text = String::from_utf8_lossy(&response.body);
        response.body = text.replace(secret.expose_secret(), "***").into_bytes();
    }
    response
}
