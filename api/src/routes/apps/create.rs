//! Creation of an app.

use axum::response::Response;
use bson::{DateTime, Document};
use dezky_shared::{
    app::{APPS_PER_TENANT, App, AppRefs, AppStatus, ClientType, Scope},
    audit::Action,
    id::{AppId, TenantId},
    platform::change_feed::DocumentChange,
    store::VersionedRepository as _,
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    AppView, audited, enqueue_provision, grant_types, load_tenant, new_secret, respond,
    respond_with_secret, run_and_wait, target,
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{ReadWrite, TenantAccess, Validate},
    validate::{self, Validator, app as rules},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// A new app.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = AppCreate)]
pub(super) struct CreateRequest {
    /// Display name.
    #[schema(min_length = 1, max_length = 120, example = "Wiki")]
    name: String,
    /// Name in the issuer's URL, unique in the tenant. It cannot be changed.
    #[schema(pattern = "^[a-z][a-z0-9-]{1,38}[a-z0-9]$", example = "wiki")]
    slug: String,
    /// Exact redirect URIs: `https`, or `http` on a loopback address. A public client may use a private-use scheme in
    /// reverse domain notation (RFC 8252). No fragment and no wildcard.
    #[schema(min_items = 1, max_items = 20, example = json!(["https://wiki.example.com/callback"]))]
    redirect_uris: Vec<String>,
    /// Client type: `confidential` (default) for a server, `public` for a native or single-page app. It cannot be
    /// changed.
    #[schema(value_type = Option<ClientType>)]
    client_type: Option<String>,
    /// Scopes: `openid` (always included), `email`, `profile` and `offline_access` (refresh tokens). Default: `openid`,
    /// `email` and `profile`.
    #[schema(value_type = Option<Vec<Scope>>, max_items = 4)]
    scopes: Option<Vec<String>>,
    /// Validity of access tokens in minutes. Default: 5.
    #[schema(minimum = 1, maximum = 60)]
    access_token_minutes: Option<i32>,
    /// Page that opens the app.
    #[schema(max_length = 2048)]
    launch_url: Option<String>,
    /// Logo of the app.
    #[schema(max_length = 2048)]
    logo_url: Option<String>,
}

/// A validated new app.
#[derive(Debug)]
pub(super) struct NewApp {
    name: String,
    slug: String,
    redirect_uris: Vec<String>,
    client_type: ClientType,
    scopes: Vec<Scope>,
    access_token_minutes: i32,
    launch_url: Option<String>,
    logo_url: Option<String>,
}

impl Validate for NewApp {
    type Raw = CreateRequest;

    fn validate(raw: CreateRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let name = validator.check("/name", validate::name(&raw.name));
        let slug = validator.check("/slug", validate::well_formed_slug(&raw.slug));
        let client_type = match &raw.client_type {
            None => Some(ClientType::default()),
            Some(text) => validator.check("/clientType", rules::client_type(text)),
        };
        let uris = rules::redirect_uris(&mut validator, &raw.redirect_uris);
        if let (Some(uris), Some(client_type)) = (&uris, client_type) {
            for error in rules::scheme_errors(uris, client_type) {
                validator.push(error);
            }
        }
        let scopes = match &raw.scopes {
            None => Some(rules::DEFAULT_SCOPES.to_vec()),
            Some(scopes) => rules::scopes(&mut validator, scopes),
        };
        let minutes = raw.access_token_minutes.unwrap_or(rules::DEFAULT_MINUTES);
        let minutes = validator.check("/accessTokenMinutes", rules::access_token_minutes(minutes));
        let launch_url = raw
            .launch_url
            .and_then(|url| validator.check("/launchUrl", rules::launch_url(&url)));
        let logo_url = raw
            .logo_url
            .and_then(|url| validator.check("/logoUrl", validate::url::https_url(&url)));
        validator.build(|| {
            Some(Self {
                name: name?,
                slug: slug?,
                redirect_uris: uris?,
                client_type: client_type?,
                scopes: scopes?,
                access_token_minutes: minutes?,
                launch_url,
                logo_url,
            })
        })
    }
}

impl NewApp {
    fn document(&self, tenant_id: TenantId, now: DateTime) -> App {
        let mut app = App {
            id: AppId::new(),
            tenant_id,
            name: self.name.clone(),
            slug: self.slug.clone(),
            redirect_uris: self.redirect_uris.clone(),
            launch_url: self.launch_url.clone(),
            logo_url: self.logo_url.clone(),
            client_type: self.client_type,
            grant_types: grant_types(&self.scopes),
            scopes: self.scopes.clone(),
            access_token_minutes: self.access_token_minutes,
            client_id: bson::Uuid::new().to_string(),
            secret_version: i64::from(self.client_type == ClientType::Confidential),
            authentik: AppRefs::default(),
            status: AppStatus::Pending,
            conditions: Vec::new(),
            generation: 1,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        app.set_pending(now);
        app
    }
}

/// Creates an app
///
/// The response has the client secret of a confidential client. **It is shown once**: a replayed response has null in
/// its place, and `secretAlreadyShown`. The job makes the app known to the identity provider and restricts it to members
/// of the tenant; then they can sign in to it. 409 `app_exists`: the tenant has an app with this slug. 409
/// `no_apps_left`: its plan grants no further app.
#[utoipa::path(
    post, path = "/tenants/{slug}/apps", operation_id = "createApp", tag = "apps", request_body = CreateRequest,
    responses((status = 202, body = AppView), (status = 200, body = AppView)),
)]
pub(super) async fn create(
    w: Write<TenantAccess<ReadWrite>, NewApp>,
) -> Result<Response, ApiError> {
    let tenant = &w.access.tenant;
    if w.body.client_type == ClientType::Confidential && !w.app.config.encryption_keys.can_encrypt()
    {
        return Err(ProblemCode::EncryptionNotConfigured.into());
    }
    let create = Create {
        tenant_id: tenant.id,
        new: &w.body,
    };
    run_and_wait(&w.runner(), tenant, &create).await
}

struct Create<'a> {
    tenant_id: TenantId,
    new: &'a NewApp,
}

impl Command for Create<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let state = runner.app;
        let now = state.store.now();
        let tenant = load_tenant(session, runner, self.tenant_id).await?;
        let count = state.db.apps.count_in(session, tenant.id).await?;
        if count >= APPS_PER_TENANT as u64 {
            return Err(ProblemCode::TooManyApps.into());
        }
        let allowance = state.db.allowances.of_plan(tenant.plan).await?;
        if allowance.rejects_app(count) {
            return Err(ProblemCode::NoAppsLeft.into());
        }
        let app = self.new.document(tenant.id, now);
        state.db.apps.insert(session, &app).await?;
        let secret = (app.client_type == ClientType::Confidential).then(new_secret);
        let job = enqueue_provision(session, runner, &app, secret.as_deref()).await?;
        let event = runner
            .event(now, Action::AppCreate, target(&app), Some(&tenant))
            .with_changes(&Document::new(), &audited(&app));
        let response = match &secret {
            None => respond(state, &tenant.slug, app, Some(&job)),
            Some(secret) => respond_with_secret(state, &tenant.slug, app, &job, secret),
        };
        Ok(CommandOutput::complete(response, event)
            .with_jobs(vec![job])
            .with_changed(DocumentChange::Tenant(tenant.id)))
    }
}
