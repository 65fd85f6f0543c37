//! Jobs: list, long polling, explanation; requeue and cancel for operators.

mod actions;
mod explain;
mod view;

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    id::{JobId, TenantId},
    platform::change_feed::DocumentChange,
    queue::job::{Job, JobState},
    store::jobs::JobFilter,
    tenant::Tenant,
};
use http::{HeaderValue, StatusCode, header};
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        Caller, FromQuery, IfNoneMatch, Page, PageOf, Parameters, PathParam, QueryParams, Read,
        SignedIn, TenantAccess, Wait,
    },
    response::ApiResponse,
    state::{AppState, SharedState},
    views::job_href,
};

pub use self::view::JobView;

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_tenant))
        .routes(routes!(show))
        .routes(routes!(explain::explain))
        .routes(routes!(actions::requeue))
        .routes(routes!(actions::cancel))
}

/// Valid job states, as errors list them.
const STATES: &str = "available, running, completed, discarded or cancelled";

/// Filter of a job list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// State.
    #[param(value_type = Option<String>, pattern = "^(available|running|completed|discarded|cancelled)$", example = "discarded")]
    state: Option<JobState>,
    /// Kind.
    #[param(example = "provision_tenant")]
    kind: Option<String>,
    /// Tenant id.
    #[param(value_type = Option<String>, format = Uuid)]
    tenant_id: Option<TenantId>,
    /// Id of the job that created them.
    #[param(value_type = Option<String>, format = Uuid)]
    parent: Option<JobId>,
    /// Whether they changed anything upstream, or would without `dryRun`.
    changed: Option<bool>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            state: parameters.take("state", STATES)?,
            kind: parameters.text("kind"),
            tenant_id: parameters.take("tenantId", "an id")?,
            parent: parameters.take("parent", "an id")?,
            changed: parameters.take("changed", "true or false")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the jobs that the caller may read, newest first
#[utoipa::path(get, path = "/jobs", operation_id = "listJobs", tag = "jobs", params(ListQuery, Page), responses((status = 200, body = PageOf<JobView>)))]
async fn list(
    SignedIn(caller): SignedIn,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<JobView>>, ApiError> {
    let visible = visible_tenants(&app, &caller).await?;
    let tenants = match (query.tenant_id, visible) {
        (None, visible) => visible,
        (Some(tenant), None) => Some(vec![tenant]),
        (Some(tenant), Some(visible)) => {
            Some(visible.into_iter().filter(|id| *id == tenant).collect())
        }
    };
    page(&app, &caller, query, tenants, "jobs").await
}

/// Lists a tenant's jobs, newest first
#[utoipa::path(
    get, path = "/tenants/{slug}/jobs", operation_id = "listTenantJobs", tag = "jobs", params(ListQuery, Page),
    responses((status = 200, body = PageOf<JobView>)),
)]
async fn list_of_tenant(
    access: TenantAccess<Read>,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<JobView>>, ApiError> {
    let id = access.tenant.id;
    let tenants = match query.tenant_id {
        Some(other) if other != id => Vec::new(),
        _ => vec![id],
    };
    let list = format!("tenants/{id}/jobs");
    page(&app, &access.caller, query, Some(tenants), &list).await
}

async fn page(
    app: &AppState,
    caller: &Caller,
    query: ListQuery,
    tenants: Option<Vec<TenantId>>,
    list: &str,
) -> Result<Json<PageOf<JobView>>, ApiError> {
    let list = format!(
        "{list}?{:?}&{:?}&{:?}&{:?}&{:?}",
        query.state, query.kind, query.tenant_id, query.parent, query.changed
    );
    let filter = JobFilter {
        tenants,
        state: query.state,
        kind: query.kind,
        parent: query.parent,
        changed: query.changed,
        before: query.page.after(&list)?,
    };
    let jobs = app.db.jobs.list(&filter, query.page.fetch_limit()).await;
    let jobs = jobs.map_err(ApiError::from_search)?;
    let slugs = slugs_of(app, &jobs).await?;
    let view = |job: Job| {
        let slug = job.tenant_id.and_then(|id| slugs.get(&id).cloned());
        JobView::new(job, slug, caller)
    };
    let id = |job: &Job| job.id.to_string();
    Ok(Json(query.page.build(&list, jobs, id, view)))
}

/// Returns a job
///
/// With `wait`, responds when the job has finished, or with `If-None-Match` as well, when it has changed. A superseded job
/// is replaced by its successor; `Content-Location` then names it.
#[utoipa::path(get, path = "/jobs/{id}", operation_id = "getJob", tag = "jobs", params(Wait), responses((status = 200, body = JobView), (status = 304)))]
async fn show(
    SignedIn(mut caller): SignedIn,
    PathParam(id): PathParam<JobId>,
    QueryParams(wait): QueryParams<Wait>,
    if_none_match: IfNoneMatch,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let (job, slug) = visible_job(&app, &caller, id).await?;
    let job = match wait.deadline() {
        None => job,
        Some(deadline) if if_none_match.is_present() => {
            until_changed(&app, &mut caller, job, &if_none_match, deadline).await?
        }
        Some(deadline) => until_final(&app, &mut caller, job, deadline).await?,
    };
    let etag = ETag::from(&job);
    let children = children_of(&app, &job).await?;
    if children.is_none() && if_none_match.matches(etag) {
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
pub(super) async fn until_final(
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
        None => caller.is_operator() || partner.is_some() && partner == own_partner,
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
    if caller.is_operator() {
        return Ok(None);
    }
    let mut visible = caller.user.tenant_ids();
    if let Some(partner) = &caller.partner {
        visible.extend(app.db.tenants.list_ids_of_partner(partner.id).await?);
    }
    Ok(Some(visible))
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
