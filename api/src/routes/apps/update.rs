//! Update of an app.

use axum::response::Response;
use dezky_shared::{
    app::{App, Scope},
    audit::Action,
    id::AppId,
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    AppView,
    change::{AppJob, Decision, change},
    ensure_not_removing, grant_types,
};
use crate::{
    config::Config,
    error::{ApiError, FieldError},
    extract::{PathId, ReadWrite, TenantAccess, Validate},
    validate::{self, FieldPatch, Validator, app as rules, double_option},
    write::Write,
};

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = AppPatch)]
pub(super) struct PatchRequest {
    /// Display name.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, min_length = 1, max_length = 120)]
    name: Option<String>,
    /// All redirect URIs.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<String>, min_items = 1, max_items = 20)]
    redirect_uris: Option<Vec<String>>,
    /// All scopes.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Vec<Scope>, max_items = 4)]
    scopes: Option<Vec<String>>,
    /// Validity of access tokens in minutes.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i32, minimum = 1, maximum = 60)]
    access_token_minutes: Option<i32>,
    /// Page that opens the app.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2048)]
    launch_url: FieldPatch<String>,
    /// Logo of the app.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 2048)]
    logo_url: FieldPatch<String>,
}

/// A validated patch.
#[derive(Debug)]
pub(super) struct Patch {
    name: Option<String>,
    redirect_uris: Option<Vec<String>>,
    scopes: Option<Vec<Scope>>,
    access_token_minutes: Option<i32>,
    launch_url: FieldPatch<String>,
    logo_url: FieldPatch<String>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self {
            name: raw
                .name
                .and_then(|name| validator.check("/name", validate::name(&name))),
            redirect_uris: raw
                .redirect_uris
                .and_then(|uris| rules::redirect_uris(&mut validator, &uris)),
            scopes: raw
                .scopes
                .and_then(|scopes| rules::scopes(&mut validator, &scopes)),
            access_token_minutes: raw.access_token_minutes.and_then(|minutes| {
                validator.check("/accessTokenMinutes", rules::access_token_minutes(minutes))
            }),
            launch_url: raw
                .launch_url
                .check(&mut validator, "/launchUrl", |url| rules::launch_url(&url)),
            logo_url: raw.logo_url.check(&mut validator, "/logoUrl", |url| {
                validate::url::https_url(&url)
            }),
        };
        validator.finish(Some(patch))
    }
}

impl Patch {
    fn decide(&self, app: &mut App) -> Result<Option<Decision>, ApiError> {
        let before = app.clone();
        self.apply(app)?;
        if *app == before {
            return Ok(None);
        }
        ensure_not_removing(&before)?;
        app.generation += 1;
        Ok(Some(Decision {
            action: Action::AppUpdate,
            job: AppJob::Provision,
        }))
    }

    fn apply(&self, app: &mut App) -> Result<(), ApiError> {
        if let Some(name) = &self.name {
            app.name.clone_from(name);
        }
        if let Some(uris) = &self.redirect_uris {
            let errors = rules::scheme_errors(uris, app.client_type);
            if !errors.is_empty() {
                return Err(ApiError::invalid(errors));
            }
            app.redirect_uris.clone_from(uris);
        }
        if let Some(scopes) = &self.scopes {
            app.scopes.clone_from(scopes);
            app.grant_types = grant_types(scopes);
        }
        if let Some(minutes) = self.access_token_minutes {
            app.access_token_minutes = minutes;
        }
        self.launch_url.apply(&mut app.launch_url);
        self.logo_url.apply(&mut app.logo_url);
        Ok(())
    }
}

/// Updates an app
///
/// 202 if anything changes, otherwise 200. Slug, client type and client id cannot be changed.
#[utoipa::path(
    patch, path = "/tenants/{slug}/apps/{id}", operation_id = "updateApp", tag = "apps", request_body = PatchRequest,
    responses((status = 202, body = AppView), (status = 200, body = AppView)),
)]
pub(super) async fn update(
    w: Write<TenantAccess<ReadWrite>, Patch, PathId<AppId>>,
) -> Result<Response, ApiError> {
    let patch = &w.body;
    change(&w, &|app| patch.decide(app)).await
}
