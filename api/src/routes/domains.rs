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
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    domain::Domain,
    id::{DomainId, TenantId},
    platform::change_feed::DocumentChange,
    queue::job::Job,
    store::{StoreError, VersionedRepository as _},
    tenant::Tenant,
    upstream::Upstream,
};
use mongodb::ClientSession;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::ownership::{backfill_domains, target};
pub(super) use self::view::DomainView;
use super::outcome::{in_state_of, preference_applied, run_and_await, status_of};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        Caller, IfNoneMatch, Page, PageOf, PathDomain, QueryParams, Read, TenantAccess, Wait,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    views::{JobLink, job_href},
    write::{Command, CommandRunner, Rollback, find_open_tenant},
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
async fn list(get: Get<TenantAccess<Read>, QueryParams<Page>>) -> ListResult<DomainView> {
    let QueryParams(page) = get.params;
    let tenant = &get.access.tenant;
    let list = format!("domains?{}", tenant.id);
    let after: Option<DomainId> = page.after(&list)?;
    backfill_domains(&get.app, tenant).await?;
    let domains = &get.app.db.domains;
    let domains = domains.list(tenant.id, after, page.fetch_limit()).await?;
    Ok(Json(page.build(
        &list,
        domains,
        |domain| domain.id.to_string(),
        DomainView::from,
    )))
}

/// Returns a domain
///
/// The name in the path may use A-labels (`xn--…`) or Unicode. Long polling: with `wait`, responds when the domain is
/// settled, which means that it is neither `pending` nor being removed, or with `If-None-Match` as well, when it has
/// changed. 404 once it is removed.
#[utoipa::path(
    get, path = "/tenants/{slug}/domains/{domain}", operation_id = "getDomain", tag = "domains",
    params(Wait),
    responses((status = 200, body = DomainView), (status = 304)),
)]
async fn show(
    get: Get<TenantAccess<Read>, (PathDomain, QueryParams<Wait>)>,
) -> Result<Response, ApiError> {
    let (PathDomain(name), QueryParams(wait)) = get.params;
    let tenant = &get.access.tenant;
    backfill_domains(&get.app, tenant).await?;
    let domain = get.app.db.domains.find_by_name(tenant.id, &name).await?;
    let mut domain = domain.ok_or(ProblemCode::NotFound)?;
    if let Some(deadline) = wait.deadline() {
        let mut caller = get.access.caller;
        domain =
            until_changed(&get.app, &mut caller, &domain, &get.if_none_match, deadline).await?;
    }
    let (etag, view) = (ETag::from(&domain), DomainView::from(domain));
    Ok(ApiResponse::conditional(&get.if_none_match, etag, &view))
}

/// Long polling: waits until `domain` is settled, or with `If-None-Match`, until its version differs. Not found once it is
/// removed, or the caller may no longer read its tenant.
async fn until_changed(
    app: &AppState,
    caller: &mut Caller,
    domain: &Domain,
    if_none_match: &IfNoneMatch,
    deadline: Instant,
) -> Result<Domain, ApiError> {
    let (tenant_id, id) = (domain.tenant_id, domain.id);
    let mut subscription = app.watcher.subscribe(DocumentChange::Domain(id));
    loop {
        let found = app.db.domains.find(id).await?;
        let domain = found.ok_or(ProblemCode::NotFound)?;
        caller.reload_tenant(&app.access, tenant_id).await?;
        let is_over = if if_none_match.is_present() {
            !if_none_match.matches(ETag::from(&domain))
        } else {
            domain.is_settled()
        };
        if is_over
            || !subscription
                .wait_newer_than(domain.revision, deadline)
                .await
        {
            return Ok(domain);
        }
    }
}

/// Runs a command on the domain `name` under the tenant's keyed mutex. With `Prefer: wait`, waits for the outcome.
async fn run_and_wait(
    runner: &CommandRunner<'_>,
    tenant: &Tenant,
    name: &str,
    command: &impl Command,
) -> Result<Response, ApiError> {
    let (mut response, outcome) =
        run_and_await(runner, &tenant.slug, Some(tenant), command).await?;
    let Some((job, mut caller)) = outcome else {
        return Ok(response.into_response());
    };
    let app = runner.app;
    let domain = app.db.domains.find_by_name(tenant.id, name).await?;
    caller.reload_tenant(&app.access, tenant.id).await?;
    if let Some(domain) = domain {
        response = respond(domain, Some(&job));
    } else {
        // The domain was removed: its last state, with the current state of the job.
        response = in_state_of(response, &job);
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
    let before = find_open_tenant(session, runner, id).await?;
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
