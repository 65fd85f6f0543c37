//! Domains of a tenant.
//!
//! A tenant owns a domain after the ownership record was found in its DNS, or after an operator added it. Several
//! tenants may claim a name; the first to prove ownership gets it.

mod actions;
mod create;
pub(super) mod ownership;
mod update;
mod view;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    domain::Domain,
    id::{DomainId, TenantId},
    queue::job::Job,
    store::{StoreError, VersionedRepository as _},
    tenant::Tenant,
    upstream::Upstream,
};
use mongodb::ClientSession;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    ownership::{adopt, target},
    view::DomainView,
};
use super::tenants::outcome::{await_job, preference_applied, status_of};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{IfNoneMatch, Page, PageOf, PathDomain, QueryParams, Read, TenantAccess},
    response::ApiResponse,
    state::SharedState,
    views::{JobLink, job_href},
    write::{Command, CommandResult, CommandRunner, Rollback, ensure_not_terminating},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::add))
        .routes(routes!(show, update::update, actions::delete))
        .routes(routes!(actions::recheck))
}

/// Lists the domains of a tenant, oldest first
///
/// Includes claims without proof of ownership.
#[utoipa::path(
    get, path = "/tenants/{slug}/domains", operation_id = "listDomains", tag = "domains",
    params(Page),
    responses((status = 200, body = PageOf<DomainView>)),
)]
async fn list(
    access: TenantAccess<Read>,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<DomainView>>, ApiError> {
    let tenant = &access.tenant;
    let list = format!("domains?{}", tenant.id);
    let after: Option<DomainId> = page.after(&list)?;
    adopt(&app, tenant).await?;
    let domains = app
        .db
        .domains
        .list(tenant.id, after, page.fetch_limit())
        .await?;
    Ok(Json(page.build(
        &list,
        domains,
        |domain| domain.id.to_string(),
        DomainView::from,
    )))
}

/// Returns a domain
///
/// The name in the path may use A-labels (`xn--…`) or Unicode.
#[utoipa::path(
    get, path = "/tenants/{slug}/domains/{domain}", operation_id = "getDomain", tag = "domains",
    responses((status = 200, body = DomainView), (status = 304)),
)]
async fn show(
    access: TenantAccess<Read>,
    PathDomain(name): PathDomain,
    if_none_match: IfNoneMatch,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let tenant = &access.tenant;
    adopt(&app, tenant).await?;
    let domain = app.db.domains.find_by_name(tenant.id, &name).await?;
    let domain = domain.ok_or(ProblemCode::NotFound)?;
    let (etag, view) = (ETag::from(&domain), DomainView::from(domain));
    Ok(ApiResponse::conditional(&if_none_match, etag, &view))
}

/// Runs a command on the domain `name` under the tenant's keyed mutex. With `Prefer: wait`, waits for the outcome.
async fn run_and_wait(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    name: &str,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let deadline = runner.prefer.deadline();
    let result = runner.run_serialized(&tenant.slug, Some(tenant), command);
    let CommandResult { mut response, job } = result.await?;
    let Some((job, mut caller)) = await_job(runner, job, deadline).await? else {
        return Ok(response.into_response());
    };
    let app = runner.app;
    let domain = app.db.domains.find_by_name(tenant.id, name).await?;
    caller.reload_tenant(&app.access, tenant.id).await?;
    if let Some(domain) = domain {
        response = respond(domain, Some(&job));
    } else {
        // The domain was removed: its last state, with the current state of the job.
        response.status = status_of(Some(&job));
        response.body["job"]["state"] = job.state.name().into();
    }
    Ok(preference_applied(response))
}

/// The response to a change, with the job that carries it out.
fn respond(domain: Domain, job: Option<&Job>) -> ApiResponse {
    let etag = ETag::from(&domain);
    let mut view = DomainView::from(domain);
    view.job = job.map(JobLink::from);
    ApiResponse {
        location: job.map(|job| job_href(job.id)),
        ..ApiResponse::new(status_of(job), etag, &view)
    }
}

/// The tenant with its owned and claimed domains. The command must then call [`save`].
async fn load(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    id: TenantId,
) -> Result<(Tenant, Vec<Domain>), Rollback> {
    let app = runner.app;
    let (tenants, now) = (&app.db.tenants, app.store.now());
    let found = tenants.find_in_transaction(session, id).await?;
    let before = found.ok_or(ProblemCode::NotFound)?;
    ensure_not_terminating(&before)?;
    let mut tenant = before.clone();
    let domains = app.db.domains.backfill(session, &mut tenant, now).await?;
    tenants
        .save_changed(session, &before, &mut tenant, now)
        .await?;
    Ok((tenant, domains))
}

/// Stores the tenant that [`load`] returned. Without a change it materializes the conflict with concurrent changes of
/// the tenant's domains.
async fn save(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    before: &Tenant,
    tenant: &mut Tenant,
) -> Result<(), StoreError> {
    let app = runner.app;
    let tenants = &app.db.tenants;
    if tenant == before {
        tenants.materialize_conflict(session, tenant.id).await?;
        return Ok(());
    }
    let now = app.store.now();
    tenant.generation += 1;
    if tenant.domains != before.domains {
        tenant.set_pending(&[Upstream::Stalwart], now);
    }
    tenants.save_changed(session, before, tenant, now).await?;
    Ok(())
}

/// The fields that the audit trail compares.
fn audited(domain: &Domain) -> bson::Document {
    let mut fields = bson::doc! {
        "name": &domain.name,
        "dmarc": { "policy": domain.dmarc.policy.name(), "rua": domain.dmarc.rua.clone() },
        "primary": domain.primary,
        "removing": domain.removing,
    };
    if let Some(by) = domain.owned_by {
        fields.insert("ownedBy", by.name());
    }
    fields
}
