//! The domains of a tenant: claiming them, looking at them, saying what they should be.
//!
//! A name is its tenant's when the ownership record was found in its DNS, or when an operator adds it. Several
//! tenants may claim a name; the first to prove it has it.

mod change;
mod create;
mod patch;
mod view;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use bson::DateTime;
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    domain::Domain,
    id::DomainId,
    store::{StoreError, TransactionError},
    tenant::Tenant,
    upstream::Upstream,
};
use futures::FutureExt as _;
use http::{HeaderName, HeaderValue, StatusCode, header};
use mongodb::ClientSession;
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::DomainView;
use super::{
    jobs::{JobLink, until_final},
    tenants::{ensure_not_terminating, still_visible},
};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{ETag, IfNoneMatch, Page, PageOf, PathDomain, QueryParams, Read, TenantAccess},
    intent::{ApiResponse, CommandError, CommandResult, CommandRunner, reject},
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::add))
        .routes(routes!(show, patch::patch, change::delete))
        .routes(routes!(change::recheck))
}

/// The domains of a tenant, oldest first
///
/// Claims that nobody has proved yet are among them.
#[utoipa::path(
    get, path = "/tenants/{slug}/domains", operation_id = "listDomains", tag = "domains",
    params(("slug" = String, Path), Page),
    responses((status = 200, body = PageOf<DomainView>), (status = "default", response = Problem)),
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

/// A domain
///
/// Its name may be spelled with A-labels (`xn--…`) or in Unicode.
#[utoipa::path(
    get, path = "/tenants/{slug}/domains/{domain}", operation_id = "getDomain", tag = "domains",
    params(("slug" = String, Path), ("domain" = String, Path), ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = DomainView), (status = 304), (status = "default", response = Problem)),
)]
async fn show(
    access: TenantAccess<Read>,
    PathDomain(name): PathDomain,
    _: QueryParams<()>,
    known: IfNoneMatch,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let tenant = &access.tenant;
    adopt(&app, tenant).await?;
    let domain = app.domains.find_by_name(tenant.id, &name).await?;
    let domain = domain.ok_or(ProblemCode::NotFound)?;
    let etag = ETag::from(&domain);
    if known.matches(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_string())]).into_response());
    }
    Ok(ApiResponse::new(StatusCode::OK, etag, &DomainView::from(domain))?.into_response())
}

/// Gives the domains of a tenant of before there was their collection the documents they lack.
pub(super) async fn adopt(app: &AppState, tenant: &Tenant) -> Result<(), ApiError> {
    let owned = app.domains.count_owned(tenant.id).await?;
    if usize::try_from(owned).is_ok_and(|owned| owned >= tenant.domains.len()) {
        return Ok(());
    }
    let adopted = app
        .store
        .transaction((app, tenant.id), |session, (app, id)| {
            async move {
                let Some(mut tenant) = app.tenants.find_for_update(session, *id).await? else {
                    return Ok(());
                };
                app.domains
                    .backfill(session, &mut tenant, app.store.now())
                    .await?;
                app.tenants.save(session, &tenant).await?;
                Ok::<_, TransactionError<StoreError>>(())
            }
            .boxed()
        })
        .await;
    match adopted {
        Ok(()) => Ok(()),
        Err(TransactionError::Store(error) | TransactionError::Aborted(error)) => Err(error.into()),
    }
}

/// The answer to a change; the final state, if it is reached before `deadline`.
async fn answer(
    recorder: &CommandRunner<'_>,
    tenant: &Tenant,
    name: &str,
    outcome: CommandResult,
    deadline: Option<Instant>,
) -> Result<Response, ApiError> {
    let (Some(job), Some(deadline)) = (outcome.job, deadline) else {
        return Ok(outcome.answer.into_response());
    };
    let (app, mut caller) = (recorder.app, recorder.caller.clone());
    let job = until_final(app, &mut caller, job, deadline).await?;
    let domain = app.domains.find_by_name(tenant.id, name).await?;
    still_visible(app, &mut caller, tenant.id).await?;
    let status = if job.state.is_final() {
        StatusCode::OK
    } else {
        StatusCode::ACCEPTED
    };
    let answer = if let Some(domain) = domain {
        answer_with(status, domain, Some(JobLink::from(&job)))?
    } else {
        // It was removed: as it was last, with what became of the job.
        let mut answer = outcome.answer;
        answer.status = status;
        answer.body["job"]["state"] = job.state.name().into();
        answer
    };
    let mut response = answer.into_response();
    response.headers_mut().insert(
        HeaderName::from_static("preference-applied"),
        HeaderValue::from_static("wait"),
    );
    Ok(response)
}

fn answer_with(
    status: StatusCode,
    domain: Domain,
    job: Option<JobLink>,
) -> Result<ApiResponse, ApiError> {
    let etag = ETag::from(&domain);
    let view = DomainView::from(domain);
    match job {
        None => ApiResponse::new(status, etag, &view),
        Some(job) => {
            let href = job.href.clone();
            Ok(ApiResponse::new(status, etag, &view.with_job(job))?.at(href))
        }
    }
}

/// The tenant, to be changed in this transaction, and all that it owns and claims.
async fn lock(
    session: &mut ClientSession,
    recorder: &CommandRunner<'_>,
    slug: &str,
) -> Result<(Tenant, Vec<Domain>), TransactionError<CommandError>> {
    let app = recorder.app;
    let tenant = app.tenants.lock_by_slug(session, slug).await?;
    let mut tenant = tenant.ok_or_else(|| reject(ProblemCode::NotFound))?;
    ensure_not_terminating(&tenant).map_err(reject)?;
    let before = tenant.clone();
    let domains = app
        .domains
        .backfill(session, &mut tenant, app.store.now())
        .await?;
    if tenant != before {
        // A version of its own: that of the lock is taken back where nothing else changes.
        tenant.revision += 1;
        app.tenants.save(session, &tenant).await?;
    }
    Ok((tenant, domains))
}

/// Writes the tenant that [`lock`] gave, if what it owns has changed since.
async fn save(
    session: &mut ClientSession,
    recorder: &CommandRunner<'_>,
    before: &Tenant,
    tenant: &mut Tenant,
) -> Result<(), StoreError> {
    let app = recorder.app;
    if tenant == before {
        return app.tenants.unlock(session, tenant.id).await;
    }
    let now = app.store.now();
    tenant.generation += 1;
    if tenant.domains != before.domains {
        tenant.set_pending(&[Upstream::Stalwart], now);
    }
    tenant.updated_at = now;
    app.tenants.save(session, tenant).await
}

fn target(domain: &Domain) -> Target {
    Target {
        kind: "domain".to_owned(),
        id: domain.id.to_string(),
        name: domain.name.clone(),
    }
}

/// What the trails of others are told who lost their claims by what the caller did.
pub(super) fn lost(
    recorder: &CommandRunner<'_>,
    claims: &[Domain],
    now: DateTime,
) -> Vec<AuditEvent> {
    let events = claims.iter().map(|claim| AuditEvent {
        tenant_id: Some(claim.tenant_id),
        ..recorder.event(now, Action::DomainLost, target(claim), None)
    });
    events.collect()
}

/// What the audit trail shows of a domain: what callers write.
fn audited(domain: &Domain) -> bson::Document {
    let mut shown = bson::doc! {
        "name": &domain.name,
        "dmarc": { "policy": domain.dmarc.policy.name(), "rua": domain.dmarc.rua.clone() },
        "primary": domain.primary,
        "removing": domain.removing,
    };
    if let Some(by) = domain.owned_by {
        shown.insert("ownedBy", by.name());
    }
    shown
}
