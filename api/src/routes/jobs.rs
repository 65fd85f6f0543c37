//! Jobs: lists, statistics, long polling, explanation; requeue and cancel for operators.

mod actions;
mod explain;
mod list;
mod stats;
mod view;

use std::collections::BTreeMap;

use axum::response::{IntoResponse as _, Response};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::change_feed::DocumentChange,
    queue::job::{Job, JobState},
    tenant::Tenant,
};
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{Caller, IfNoneMatch, PathParam, QueryParams, SignedIn, Wait},
    read::Get,
    response::ApiResponse,
    state::{AppState, SharedState},
    views::job_href,
};

pub use self::view::JobView;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list::list))
        .routes(routes!(list::list_of_tenant))
        .routes(routes!(stats::stats))
        .routes(routes!(show))
        .routes(routes!(explain::explain))
        .routes(routes!(actions::requeue))
        .routes(routes!(actions::cancel))
        .routes(routes!(actions::dismiss))
}

/// Returns a job
///
/// With `wait`, responds when the job has finished, or with `If-None-Match` as well, when it has changed. A superseded job
/// is replaced by its successor; `Content-Location` then names it.
#[utoipa::path(get, path = "/jobs/{id}", operation_id = "getJob", tag = "jobs", params(Wait), responses((status = 200, body = JobView), (status = 304)))]
async fn show(
    get: Get<SignedIn, (PathParam<JobId>, QueryParams<Wait>)>,
) -> Result<Response, ApiError> {
    let SignedIn(mut caller) = get.access;
    let (PathParam(id), QueryParams(wait)) = get.params;
    let (job, slug) = visible_job(&get.app, &caller, id).await?;
    let job = match wait.deadline() {
        None => job,
        Some(deadline) if get.if_none_match.is_present() => {
            until_changed(&get.app, &mut caller, job, &get.if_none_match, deadline).await?
        }
        Some(deadline) => until_final(&get.app, &mut caller, job, deadline).await?,
    };
    let etag = ETag::from(&job);
    let children = children_of(&get.app, &job).await?;
    if children.is_none() && get.if_none_match.matches(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_string())]).into_response());
    }
    let location = (job.id != id).then(|| job_href(job.id));
    let view = JobView::new(job, slug, &caller);
    let response = match children {
        // The job's revision does not cover its children.
        Some(children) => ApiResponse::unversioned(StatusCode::OK, &view.with_children(children)),
        None => ApiResponse::new(StatusCode::OK, etag, &view),
    };
    let mut response = response.into_response();
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        response
            .headers_mut()
            .insert(header::CONTENT_LOCATION, location);
    }
    Ok(response)
}

/// Number of child jobs by state. Only jobs without a tenant have any.
async fn children_of(
    app: &AppState,
    job: &Job,
) -> Result<Option<BTreeMap<JobState, u64>>, ApiError> {
    if job.tenant_id.is_some() {
        return Ok(None);
    }
    let children = app.db.jobs.count_children(job.id).await?;
    Ok(Some(children).filter(|children| !children.is_empty()))
}

/// Long polling: waits until the version of `job` does not match `if_none_match`.
async fn until_changed(
    app: &AppState,
    caller: &mut Caller,
    mut job: Job,
    if_none_match: &IfNoneMatch,
    deadline: Instant,
) -> Result<Job, ApiError> {
    let mut subscription = app.watcher.subscribe(DocumentChange::Job(job.id));
    loop {
        (job, _) = still_visible_job(app, caller, job.id).await?;
        if !if_none_match.matches(ETag::from(&job))
            || !subscription.wait_newer_than(job.revision, deadline).await
        {
            return Ok(job);
        }
    }
}

/// Long polling: waits until `job`, or the job that supersedes it, has finished.
pub(crate) async fn until_final(
    app: &AppState,
    caller: &mut Caller,
    mut job: Job,
    deadline: Instant,
) -> Result<Job, ApiError> {
    loop {
        let mut subscription = app.watcher.subscribe(DocumentChange::Job(job.id));
        loop {
            (job, _) = still_visible_job(app, caller, job.id).await?;
            if job.state.is_final() {
                break;
            }
            if !subscription.wait_newer_than(job.revision, deadline).await {
                return Ok(job);
            }
        }
        let successor = match job.superseded_by {
            Some(id) => app.db.jobs.find(id).await?,
            None => None,
        };
        match successor {
            Some(successor) => job = successor,
            None => return Ok(job),
        }
    }
}

/// The job and its tenant's slug, if the caller may read them.
pub(super) async fn visible_job(
    app: &AppState,
    caller: &Caller,
    id: JobId,
) -> Result<(Job, Option<String>), ApiError> {
    let (job, tenant) = find(app, id).await?;
    if !may_read(caller, &job, tenant.as_ref()) {
        return Err(app.access.conceal(tenant.is_some().into()).await);
    }
    Ok((job, tenant.map(|tenant| tenant.slug)))
}

/// Reloads the job, its tenant and the caller's permissions. Not found if the caller may no longer read the job.
pub(super) async fn still_visible_job(
    app: &AppState,
    caller: &mut Caller,
    id: JobId,
) -> Result<(Job, Option<Tenant>), ApiError> {
    let (job, tenant) = find(app, id).await?;
    caller.refresh(&app.access).await?;
    if !may_read(caller, &job, tenant.as_ref()) {
        return Err(ProblemCode::NotFound.into());
    }
    Ok((job, tenant))
}

async fn find(app: &AppState, id: JobId) -> Result<(Job, Option<Tenant>), ApiError> {
    let job = app.db.jobs.find(id).await?.ok_or(ProblemCode::NotFound)?;
    let tenant = tenant_of(app, &job).await?;
    Ok((job, tenant))
}

/// Whether the caller may read the job: one of a tenant, of a partner, or of the platform.
fn may_read(caller: &Caller, job: &Job, tenant: Option<&Tenant>) -> bool {
    let own_partner = caller.partner.as_ref().map(|partner| partner.id);
    let partner = job.partner_id();
    match tenant {
        Some(tenant) => caller.may_read(tenant),
        None => caller.reads_platform() || partner.is_some() && partner == own_partner,
    }
}

async fn tenant_of(app: &AppState, job: &Job) -> Result<Option<Tenant>, ApiError> {
    match job.tenant_id {
        Some(id) => Ok(app.db.tenants.find(id).await?),
        None => Ok(None),
    }
}

/// The tenants that the caller may read; `None` for all.
pub(super) async fn visible_tenants(
    app: &AppState,
    caller: &Caller,
) -> Result<Option<Vec<TenantId>>, ApiError> {
    if caller.reads_platform() {
        return Ok(None);
    }
    let mut visible = caller.user.tenant_ids();
    if let Some(partner) = &caller.partner {
        visible.extend(app.db.tenants.list_ids_of_partner(partner.id).await?);
    }
    Ok(Some(visible))
}

/// Those of these jobs that still exist, by id.
pub(super) async fn jobs_by_id(
    app: &AppState,
    ids: impl Iterator<Item = JobId>,
) -> Result<BTreeMap<JobId, Job>, ApiError> {
    let jobs = app.db.jobs.list_by_ids(&ids.collect::<Vec<_>>()).await?;
    Ok(jobs.into_iter().map(|job| (job.id, job)).collect())
}

/// Representations of jobs for `caller`.
pub(super) async fn job_views(
    app: &AppState,
    jobs: Vec<Job>,
    caller: &Caller,
) -> Result<Vec<JobView>, ApiError> {
    let slugs = slugs_of(app, &jobs).await?;
    let view = |job: Job| {
        let slug = job.tenant_id.and_then(|id| slugs.get(&id).cloned());
        JobView::new(job, slug, caller)
    };
    Ok(jobs.into_iter().map(view).collect())
}

async fn slugs_of(app: &AppState, jobs: &[Job]) -> Result<BTreeMap<TenantId, String>, ApiError> {
    let mut ids: Vec<TenantId> = jobs.iter().filter_map(|job| job.tenant_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let tenants = app.db.tenants.list_by_ids(&ids).await?;
    let slugs = tenants.into_iter().map(|tenant| (tenant.id, tenant.slug));
    Ok(slugs.collect())
}
