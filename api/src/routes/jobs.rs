//! Jobs: looking at them, and, for operators, running them again or stopping them.

mod change;
mod explain;
mod view;

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
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

pub(super) use self::view::href;
pub use self::view::{JobLink, JobView};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{
        Caller, ETag, FromQuery, IfNoneMatch, Page, PageOf, Parameters, PathParam, QueryParams,
        Read, SignedIn, TenantAccess, Wait,
    },
    intent::ApiResponse,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_tenant))
        .routes(routes!(show))
        .routes(routes!(explain::explain))
        .routes(routes!(change::requeue))
        .routes(routes!(change::cancel))
}

/// What a filter by state can be.
const STATES: &str = "available, running, completed, discarded or cancelled";

/// Which jobs are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Only in this state.
    #[param(value_type = Option<String>, pattern = "^(available|running|completed|discarded|cancelled)$", example = "discarded")]
    state: Option<JobState>,
    /// Only of this kind.
    #[param(example = "provision_tenant")]
    kind: Option<String>,
    /// Only about this tenant.
    #[param(value_type = Option<String>, format = Uuid)]
    tenant_id: Option<TenantId>,
    /// Only those that this job made.
    #[param(value_type = Option<String>, format = Uuid)]
    parent: Option<JobId>,
    /// Only those that changed something upstream, or would if they were no dry run; or only the others.
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

/// The jobs the caller may see, newest first
#[utoipa::path(
    get, path = "/jobs", operation_id = "listJobs", tag = "jobs", params(ListQuery, Page),
    responses((status = 200, body = PageOf<JobView>), (status = "default", response = Problem)),
)]
async fn list(
    SignedIn(caller): SignedIn,
    QueryParams(query): QueryParams<ListQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<JobView>>, ApiError> {
    let visible = visible_tenants(&app, &caller).await?;
    let tenants = match (query.tenant_id, visible) {
        (None, visible) => visible,
        (Some(wanted), None) => Some(vec![wanted]),
        (Some(wanted), Some(visible)) => {
            Some(visible.into_iter().filter(|id| *id == wanted).collect())
        }
    };
    page(&app, &caller, query, tenants, "jobs").await
}

/// A tenant's jobs, newest first
#[utoipa::path(
    get, path = "/tenants/{slug}/jobs", operation_id = "listTenantJobs", tag = "jobs", params(("slug" = String, Path), ListQuery, Page),
    responses((status = 200, body = PageOf<JobView>), (status = "default", response = Problem)),
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
    let jobs = app.jobs.list(&filter, query.page.fetch_limit()).await?;
    let slugs = slugs_of(app, &jobs).await?;
    let view = |job: Job| {
        let slug = job.tenant_id.and_then(|id| slugs.get(&id).cloned());
        JobView::new(job, slug, caller)
    };
    Ok(Json(query.page.build(
        &list,
        jobs,
        |job| job.id.to_string(),
        view,
    )))
}

/// A job
///
/// With `wait`, answers when the job is over; with `If-None-Match` too, when anything about it changed. Whoever
/// waits for a job whose work another one does is given that one.
#[utoipa::path(
    get, path = "/jobs/{id}", operation_id = "getJob", tag = "jobs", params(("id" = String, Path), Wait, ("If-None-Match" = Option<String>, Header)),
    responses((status = 200, body = JobView), (status = 304), (status = "default", response = Problem)),
)]
async fn show(
    SignedIn(mut caller): SignedIn,
    PathParam(id): PathParam<JobId>,
    QueryParams(wait): QueryParams<Wait>,
    known: IfNoneMatch,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let (job, slug) = visible_job(&app, &caller, id).await?;
    let job = match wait.deadline() {
        None => job,
        Some(deadline) if known.is_present() => {
            until_changed(&app, &mut caller, job, &known, deadline).await?
        }
        Some(deadline) => until_final(&app, &mut caller, job, deadline).await?,
    };
    let etag = ETag::from(&job);
    let children = children_of(&app, &job).await?;
    if children.is_none() && known.matches(etag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag.to_string())]).into_response());
    }
    let location = (job.id != id).then(|| view::href(job.id));
    let view = JobView::new(job, slug, &caller);
    let answer = match children {
        // They change while the job does not, so its version says nothing of them.
        Some(children) => ApiResponse::unversioned(StatusCode::OK, &view.with_children(children))?,
        None => ApiResponse::new(StatusCode::OK, etag, &view)?,
    };
    let mut response = answer.into_response();
    if let Some(location) = location.and_then(|location| HeaderValue::try_from(location).ok()) {
        response
            .headers_mut()
            .insert(header::CONTENT_LOCATION, location);
    }
    Ok(response)
}

/// How many jobs that `job` made are in each state, if it is of the kind that makes any: about no tenant.
async fn children_of(
    app: &AppState,
    job: &Job,
) -> Result<Option<BTreeMap<JobState, u64>>, ApiError> {
    if job.tenant_id.is_some() {
        return Ok(None);
    }
    let children = app.jobs.count_children(job.id).await?;
    Ok(Some(children).filter(|children| !children.is_empty()))
}

/// Waits until there is a version of `job` that the caller does not know.
async fn until_changed(
    app: &AppState,
    caller: &mut Caller,
    mut job: Job,
    known: &IfNoneMatch,
    deadline: Instant,
) -> Result<Job, ApiError> {
    let mut waiter = app.waiting.subscribe(DocumentChange::Job(job.id));
    loop {
        (job, _) = still_visible_job(app, caller, job.id).await?;
        if !known.matches(ETag::from(&job)) || !waiter.wait_newer_than(job.revision, deadline).await
        {
            return Ok(job);
        }
    }
}

/// Waits until `job`, or the one that does its work, is over.
pub(super) async fn until_final(
    app: &AppState,
    caller: &mut Caller,
    mut job: Job,
    deadline: Instant,
) -> Result<Job, ApiError> {
    loop {
        let mut waiter = app.waiting.subscribe(DocumentChange::Job(job.id));
        loop {
            (job, _) = still_visible_job(app, caller, job.id).await?;
            if job.state.is_final() {
                break;
            }
            if !waiter.wait_newer_than(job.revision, deadline).await {
                return Ok(job);
            }
        }
        let successor = match job.superseded_by {
            Some(id) => app.jobs.find(id).await?,
            None => None,
        };
        match successor {
            Some(successor) => job = successor,
            None => return Ok(job),
        }
    }
}

/// The job, and its tenant's slug, if the caller may see it.
async fn visible_job(
    app: &AppState,
    caller: &Caller,
    id: JobId,
) -> Result<(Job, Option<String>), ApiError> {
    let (job, tenant) = find(app, id).await?;
    if !may_see(caller, &job, tenant.as_ref()) {
        return Err(ProblemCode::NotFound.into());
    }
    Ok((job, tenant.map(|tenant| tenant.slug)))
}

/// The job and its tenant as they are now, if the caller, who may have waited, still may see them.
pub(super) async fn still_visible_job(
    app: &AppState,
    caller: &mut Caller,
    id: JobId,
) -> Result<(Job, Option<Tenant>), ApiError> {
    let (job, tenant) = find(app, id).await?;
    caller.refresh(app).await?;
    if !may_see(caller, &job, tenant.as_ref()) {
        return Err(ProblemCode::NotFound.into());
    }
    Ok((job, tenant))
}

async fn find(app: &AppState, id: JobId) -> Result<(Job, Option<Tenant>), ApiError> {
    let job = app.jobs.find(id).await?.ok_or(ProblemCode::NotFound)?;
    let tenant = tenant_of(app, &job).await?;
    Ok((job, tenant))
}

/// Whether the caller may see this job: of a tenant, of a partner's own, or of neither.
fn may_see(caller: &Caller, job: &Job, tenant: Option<&Tenant>) -> bool {
    let works_there = |id| {
        let partner = caller.partner.as_ref();
        partner.is_some_and(|partner| partner.id == id)
    };
    match tenant {
        Some(tenant) => caller.may_read(tenant),
        None => caller.is_operator() || job.partner_id().is_some_and(works_there),
    }
}

async fn tenant_of(app: &AppState, job: &Job) -> Result<Option<Tenant>, ApiError> {
    match job.tenant_id {
        Some(id) => Ok(app.tenants.find(id).await?),
        None => Ok(None),
    }
}

/// The tenants whose jobs the caller may see; all when `None`.
async fn visible_tenants(
    app: &AppState,
    caller: &Caller,
) -> Result<Option<Vec<TenantId>>, ApiError> {
    if caller.is_operator() {
        return Ok(None);
    }
    let mut visible = caller.user.tenant_ids();
    if let Some(partner) = &caller.partner {
        visible.extend(app.tenants.list_ids_of_partner(partner.id).await?);
    }
    Ok(Some(visible))
}

pub(super) async fn slugs_of(
    app: &AppState,
    jobs: &[Job],
) -> Result<BTreeMap<TenantId, String>, ApiError> {
    let mut ids: Vec<TenantId> = jobs.iter().filter_map(|job| job.tenant_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let tenants = app.tenants.list_by_ids(&ids).await?;
    Ok(tenants
        .into_iter()
        .map(|tenant| (tenant.id, tenant.slug))
        .collect())
}
