//! The representation of an app.

use dezky_shared::app::{App, AppStatus, ClientType, GrantType, Scope};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    state::AppState,
    timestamp::Timestamp,
    views::{ConditionView, JobLink},
};

/// An app of a tenant.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = App)]
pub(in crate::routes) struct AppView {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Display name.
    name: String,
    /// Name in the issuer's URL.
    #[schema(example = "wiki")]
    slug: String,
    /// Status: `pending`, `active`, `suspended` (with its tenant), `failed` (rejected; change the app to try again) or
    /// `removing`.
    status: AppStatus,
    /// Client type: `confidential` or `public`.
    client_type: ClientType,
    /// OAuth client id.
    #[schema(format = Uuid)]
    client_id: String,
    /// OAuth client secret, only in the first response of a request that issues one; null in a replayed response.
    #[serde(skip_serializing_if = "Option::is_none")]
    client_secret: Option<String>,
    /// True in a replayed response.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_already_shown: Option<bool>,
    /// Exact redirect URIs.
    redirect_uris: Vec<String>,
    /// Page that opens the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    launch_url: Option<String>,
    /// Logo of the app.
    #[serde(skip_serializing_if = "Option::is_none")]
    logo_url: Option<String>,
    /// Scopes that the app may request.
    scopes: Vec<Scope>,
    /// Grants that the app may use; they follow from the scopes.
    grant_types: Vec<GrantType>,
    /// Validity of access tokens in minutes.
    access_token_minutes: i32,
    /// Issuer: the `iss` claim of tokens, compared byte for byte.
    #[schema(example = "https://auth.example.com/application/o/acme_wiki/")]
    issuer: String,
    /// Endpoints of the issuer.
    endpoints: EndpointsView,
    /// Conditions in detail.
    conditions: Vec<ConditionView>,
    /// Incremented by every requested change.
    generation: i64,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
    /// The job that carries out the change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) job: Option<JobLink>,
}

/// Endpoints of an app's issuer, as its discovery document lists them.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AppEndpoints)]
struct EndpointsView {
    /// Discovery document.
    discovery: String,
    /// Authorization endpoint.
    authorize: String,
    /// Token endpoint.
    token: String,
    /// Userinfo endpoint.
    userinfo: String,
    /// End-session endpoint.
    end_session: String,
    /// JSON Web Key Set.
    jwks: String,
}

impl AppView {
    /// The view of a tenant's app.
    pub(in crate::routes) fn new(state: &AppState, tenant_slug: &str, app: App) -> Self {
        let root = format!("{}/application/o/", state.config.authentik_public_url);
        let issuer = format!("{root}{}/", app.application_slug(tenant_slug));
        Self {
            id: app.id.to_string(),
            endpoints: EndpointsView {
                discovery: format!("{issuer}.well-known/openid-configuration"),
                authorize: format!("{root}authorize/"),
                token: format!("{root}token/"),
                userinfo: format!("{root}userinfo/"),
                end_session: format!("{issuer}end-session/"),
                jwks: format!("{issuer}jwks/"),
            },
            issuer,
            name: app.name,
            slug: app.slug,
            status: app.status,
            client_type: app.client_type,
            client_id: app.client_id,
            client_secret: None,
            secret_already_shown: None,
            redirect_uris: app.redirect_uris,
            launch_url: app.launch_url,
            logo_url: app.logo_url,
            scopes: app.scopes,
            grant_types: app.grant_types,
            access_token_minutes: app.access_token_minutes,
            conditions: app
                .conditions
                .into_iter()
                .map(ConditionView::from)
                .collect(),
            generation: app.generation,
            revision: app.revision,
            created_at: app.created_at.into(),
            updated_at: app.updated_at.into(),
            job: None,
        }
    }
}
