//! Apps of a tenant: OIDC relying parties whose users sign in with their workspace account.
//!
//! The client secret is generated here, shown in the response, and handed to the job encrypted. It is stored nowhere
//! else, so a lost one is replaced and not looked up.

mod alias;
mod change;
mod create;
mod delete;
mod rotate_secret;
mod update;
mod view;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use bson::{Document, doc};
use dezky_shared::{
    app::{App, AppStatus, GrantType, Scope},
    audit::Target,
    id::{AppId, TenantId},
    queue::{
        args::ProvisionApp,
        job::{Job, JobArgs},
    },
    store::{VersionedRepository as _, jobs::NewJob},
    tenant::Tenant,
};
use mongodb::ClientSession;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::view::AppView;
use super::outcome::{in_state_of, preference_applied, run_and_await, status_of};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Page, PageOf, PathId, QueryParams, ReadPrivate, TenantAccess},
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    views::{JobLink, job_href},
    write::{Command, CommandRunner, Rollback, ensure_not_terminating},
};

/// Member of a response that holds the client secret, once.
const CLIENT_SECRET: &str = "clientSecret";

pub(super) fn router() -> OpenApiRouter<SharedState> {
    documented().merge(alias::router())
}

fn documented() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, update::update, delete::delete))
        .routes(routes!(rotate_secret::rotate_secret))
}

/// Lists the apps of a tenant, oldest first
#[utoipa::path(
    get, path = "/tenants/{slug}/apps", operation_id = "listApps", tag = "apps",
    params(Page),
    responses((status = 200, body = PageOf<AppView>)),
)]
async fn list(get: Get<TenantAccess<ReadPrivate>, QueryParams<Page>>) -> ListResult<AppView> {
    let QueryParams(page) = get.params;
    let tenant = &get.access.tenant;
    let list = format!("apps?{}", tenant.id);
    let after: Option<AppId> = page.after(&list)?;
    let apps = &get.app.db.apps;
    let apps = apps.list(tenant.id, after, page.fetch_limit()).await?;
    let id = |app: &App| app.id.to_string();
    Ok(Json(page.build(&list, apps, id, |found| {
        AppView::new(&get.app, &tenant.slug, found)
    })))
}

/// Returns an app
///
/// The client secret is never part of it: a lost secret is replaced with `rotate-secret`.
#[utoipa::path(
    get, path = "/tenants/{slug}/apps/{id}", operation_id = "getApp", tag = "apps",
    responses((status = 200, body = AppView), (status = 304)),
)]
async fn show(get: Get<TenantAccess<ReadPrivate>, PathId<AppId>>) -> Result<Response, ApiError> {
    let tenant = &get.access.tenant;
    let found = get.app.db.apps.find_of(tenant.id, get.params.0).await?;
    let found = found.ok_or(ProblemCode::NotFound)?;
    let etag = ETag::from(&found);
    let view = AppView::new(&get.app, &tenant.slug, found);
    Ok(ApiResponse::conditional(&get.if_none_match, etag, &view))
}

/// Runs a command on an app under the tenant's keyed mutex. With `Prefer: wait`, waits for the outcome.
async fn run_and_wait(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let (mut response, outcome) =
        run_and_await(runner, &tenant.slug, Some(tenant), command).await?;
    let Some((job, mut caller)) = outcome else {
        return Ok(response.into_response());
    };
    let app = runner.app;
    caller.reload_tenant(&app.access, tenant.id).await?;
    let id = response.body["id"].as_str().and_then(|id| id.parse().ok());
    let id: AppId = id.ok_or_else(|| ApiError::internal(anyhow::anyhow!("a view has no id")))?;
    if let Some(found) = app.db.apps.find_of(tenant.id, id).await? {
        let secret = response.body[CLIENT_SECRET].take();
        response = respond(app, &tenant.slug, found, Some(&job));
        if !secret.is_null() {
            response.body[CLIENT_SECRET] = secret;
        }
    } else {
        // The app was removed: its last state, with the current state of the job.
        response = in_state_of(response, &job);
    }
    Ok(preference_applied(response))
}

/// The response to a change, with the job that carries it out.
fn respond(app: &AppState, tenant_slug: &str, found: App, job: Option<&Job>) -> ApiResponse {
    let etag = ETag::from(&found);
    let mut view = AppView::new(app, tenant_slug, found);
    view.job = job.map(JobLink::from);
    ApiResponse {
        location: job.map(|job| job_href(job.id)),
        ..ApiResponse::new(status_of(job), etag, &view)
    }
}

/// The response to a change that issued a client secret.
fn respond_with_secret(
    app: &AppState,
    tenant_slug: &str,
    found: App,
    job: &Job,
    secret: &str,
) -> ApiResponse {
    let mut response = respond(app, tenant_slug, found, Some(job));
    response.body[CLIENT_SECRET] = secret.into();
    response.with_one_time_secret(CLIENT_SECRET)
}

/// The tenant, if its apps may be changed. The transaction conflicts with every other one that changes the tenant.
async fn load_tenant(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    id: TenantId,
) -> Result<Tenant, Rollback> {
    let tenants = &runner.app.db.tenants;
    let tenant = tenants.materialize_conflict(session, id).await?;
    let tenant = tenant.ok_or(ProblemCode::NotFound)?;
    ensure_not_terminating(&tenant)?;
    Ok(tenant)
}

/// The tenant and its app with this id, which satisfies `If-Match`.
async fn load(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    tenant_id: TenantId,
    id: AppId,
) -> Result<(Tenant, App), Rollback> {
    let tenant = load_tenant(session, runner, tenant_id).await?;
    let apps = &runner.app.db.apps;
    let found = apps.find_in_transaction(session, id).await?;
    let found = found.filter(|app| app.tenant_id == tenant_id);
    let found = found.ok_or(ProblemCode::NotFound)?;
    runner.if_match.check(ETag::from(&found))?;
    Ok((tenant, found))
}

/// Fails unless the app may be changed.
fn ensure_not_removing(app: &App) -> Result<(), ProblemCode> {
    match app.status {
        AppStatus::Removing => Err(ProblemCode::AppRemoving),
        _ => Ok(()),
    }
}

/// A new client secret: 244 random bits from the operating system, in hexadecimal.
fn new_secret() -> String {
    let half = || bson::Uuid::new().to_string().replace('-', "");
    half() + &half()
}

/// Enqueues a job of an app, with the client secret that it carries.
async fn enqueue(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    args: &impl JobArgs,
    secret: Option<&str>,
) -> Result<Job, Rollback> {
    let mut new = NewJob::new(args, &runner.actor_id(), runner.app.store.now())?;
    if let Some(secret) = secret {
        let keys = &runner.app.config.encryption_keys;
        let encrypted = new.with_secrets(keys, &secret);
        new = encrypted.map_err(|_| ProblemCode::EncryptionNotConfigured)?;
    }
    Ok(runner.enqueue(session, new).await?)
}

/// Enqueues the job that applies an app's desired state.
async fn enqueue_provision(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    app: &App,
    secret: Option<&str>,
) -> Result<Job, Rollback> {
    let args = ProvisionApp {
        tenant_id: app.tenant_id,
        app_id: app.id,
        secret_version: secret.map_or(0, |_| app.secret_version),
    };
    enqueue(session, runner, &args, secret).await
}

/// Grants that follow from the scopes.
fn grant_types(scopes: &[Scope]) -> Vec<GrantType> {
    let renews = scopes.contains(&Scope::OfflineAccess);
    let refresh = renews.then_some(GrantType::RefreshToken);
    [GrantType::AuthorizationCode]
        .into_iter()
        .chain(refresh)
        .collect()
}

/// The target of an app's audit events.
fn target(app: &App) -> Target {
    Target::new("app", app.id, app.name.clone())
}

/// The fields that the audit trail compares.
fn audited(app: &App) -> Document {
    let scopes = app.scopes.iter().copied().map(Scope::name);
    doc! {
        "name": &app.name,
        "slug": &app.slug,
        "clientId": &app.client_id,
        "clientType": app.client_type.name(),
        "redirectUris": &app.redirect_uris,
        "launchUrl": app.launch_url.clone(),
        "logoUrl": app.logo_url.clone(),
        "scopes": scopes.collect::<Vec<_>>(),
        "accessTokenMinutes": app.access_token_minutes,
        "secretVersion": app.secret_version,
        "removing": app.status == AppStatus::Removing,
    }
}
