//! Lists of jobs.

use axum::Json;
use bson::DateTime;
use dezky_shared::{
    id::{JobId, TenantId},
    queue::{
        error_code::{ErrorClass, ErrorCode},
        job::{Job, JobState, Queue},
    },
    store::jobs::JobFilter,
};
use utoipa::IntoParams;

use super::{JobView, slugs_of, visible_tenants};
use crate::{
    error::{ApiError, FieldError},
    extract::{
        Caller, FromQuery, Page, PageOf, Parameters, QueryParams, Read, SignedIn, TenantAccess,
    },
    read::{Get, ListResult},
    state::AppState,
    validate,
};

/// Valid job states, as errors list them.
const STATES: &str = "available, running, completed, discarded or cancelled";

/// Filters of a list of jobs.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
pub(super) struct JobQuery {
    /// States, separated by commas.
    #[param(value_type = Option<String>, pattern = "^(available|running|completed|discarded|cancelled)(,(available|running|completed|discarded|cancelled))*$", example = "discarded,cancelled")]
    state: Vec<JobState>,
    /// Kind.
    #[param(example = "provision_tenant")]
    kind: Option<String>,
    /// Queue.
    queue: Option<Queue>,
    /// Tenant id.
    #[param(value_type = Option<String>, format = Uuid)]
    tenant_id: Option<TenantId>,
    /// Tenant, by its slug.
    tenant: Option<String>,
    /// Code of the last failure.
    error_code: Option<ErrorCode>,
    /// Class of the last failure.
    error_class: Option<ErrorClass>,
    /// Full-text search: up to 8 words of letters and digits, all of which must occur in the kind, the request id or the
    /// failure; for operators also in the lock key, the requester, the trace id or the detail of the failure. Looks at the
    /// latest jobs for at most 5 seconds: combine it with other filters.
    #[param(value_type = Option<String>, max_length = 200)]
    q: Vec<String>,
    /// Only jobs created at or after this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    since: Option<DateTime>,
    /// Only jobs created before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    before: Option<DateTime>,
    /// Id of the job that created them.
    #[param(value_type = Option<String>, format = Uuid)]
    parent: Option<JobId>,
    /// Whether they changed anything upstream, or would without `dryRun`.
    changed: Option<bool>,
}

impl FromQuery for JobQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let invalid = |error| ApiError::invalid(vec![error]);
        Ok(Self {
            state: states(parameters)?,
            kind: parameters.text("kind"),
            queue: parameters.take(
                "queue",
                "provisioning, dns, billing, webhooks or maintenance",
            )?,
            tenant_id: parameters.take("tenantId", "an id")?,
            tenant: parameters.text("tenant"),
            error_code: named(parameters, "errorCode", ErrorCode::ALL, "an error code")?,
            error_class: named(parameters, "errorClass", ErrorClass::ALL, "an error class")?,
            q: parameters.search_words("q").map_err(invalid)?,
            since: parameters.time("since").map_err(invalid)?,
            before: parameters.time("before").map_err(invalid)?,
            parent: parameters.take("parent", "an id")?,
            changed: parameters.take("changed", "true or false")?,
        })
    }
}

/// Takes a list of states, separated by commas.
fn states(parameters: &mut Parameters) -> Result<Vec<JobState>, ApiError> {
    let Some(text) = parameters.text("state") else {
        return Ok(Vec::new());
    };
    let states = text.split(',').map(str::parse::<JobState>);
    let states = states.collect::<Result<Vec<_>, _>>();
    let mut states: Vec<JobState> = states.map_err(|_: String| {
        let message = format!("state must be {STATES}, or several of them separated by commas.");
        ApiError::malformed(FieldError::parameter("state", "invalid", message))
    })?;
    states.sort_unstable();
    states.dedup();
    Ok(states)
}

/// Takes one of `all` by its name on the wire.
fn named<T: serde::Serialize + Copy, const N: usize>(
    parameters: &mut Parameters,
    name: &str,
    all: [T; N],
    expected: &str,
) -> Result<Option<T>, ApiError> {
    let Some(text) = parameters.text(name) else {
        return Ok(None);
    };
    let found = validate::one_of(all, &text).ok_or_else(|| {
        let message = format!("{name} must be {expected}.");
        ApiError::malformed(FieldError::parameter(name, "invalid", message))
    })?;
    Ok(Some(found))
}

impl JobQuery {
    /// The filter for `caller`, among these tenants, or all.
    pub(super) async fn filter(
        &self,
        app: &AppState,
        caller: &Caller,
        tenants: Option<Vec<TenantId>>,
    ) -> Result<JobFilter, ApiError> {
        let mut selected: Vec<TenantId> = self.tenant_id.into_iter().collect();
        if let Some(slug) = &self.tenant {
            let tenant = app.db.tenants.find_by_slug(slug).await?;
            let id = tenant.map(|tenant| tenant.id);
            // Both name the same tenant, or there are no such jobs.
            selected = if selected.is_empty() {
                id.into_iter().collect()
            } else {
                selected
                    .into_iter()
                    .filter(|other| id == Some(*other))
                    .collect()
            };
        }
        let is_narrowed = self.tenant_id.is_some() || self.tenant.is_some();
        let tenants = match tenants {
            visible if !is_narrowed => visible,
            None => Some(selected),
            Some(visible) => Some(
                visible
                    .into_iter()
                    .filter(|id| selected.contains(id))
                    .collect(),
            ),
        };
        Ok(JobFilter {
            tenants,
            states: self.state.clone(),
            kind: self.kind.clone(),
            queue: self.queue,
            error_code: self.error_code,
            error_class: self.error_class,
            since: self.since,
            until: self.before,
            words: self.q.clone(),
            searches_details: caller.reads_platform(),
            parent: self.parent,
            changed: self.changed,
            before: None,
        })
    }
}

/// Filters and page of a list of jobs.
#[derive(Debug)]
pub(super) struct ListQuery {
    filters: JobQuery,
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            filters: JobQuery::from_query(parameters)?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the jobs that the caller may read, newest first
#[utoipa::path(get, path = "/jobs", operation_id = "listJobs", tag = "jobs", params(JobQuery, Page), responses((status = 200, body = PageOf<JobView>)))]
pub(super) async fn list(get: Get<SignedIn, QueryParams<ListQuery>>) -> ListResult<JobView> {
    let visible = visible_tenants(&get.app, &get.access).await?;
    page(&get.app, &get.access, get.params.0, visible, "jobs").await
}

/// Lists a tenant's jobs, newest first
#[utoipa::path(
    get, path = "/tenants/{slug}/jobs", operation_id = "listTenantJobs", tag = "jobs", params(JobQuery, Page),
    responses((status = 200, body = PageOf<JobView>)),
)]
pub(super) async fn list_of_tenant(
    get: Get<TenantAccess<Read>, QueryParams<ListQuery>>,
) -> ListResult<JobView> {
    let id = get.access.tenant.id;
    let list = format!("tenants/{id}/jobs");
    page(
        &get.app,
        &get.access.caller,
        get.params.0,
        Some(vec![id]),
        &list,
    )
    .await
}

async fn page(
    app: &AppState,
    caller: &Caller,
    ListQuery { filters, page }: ListQuery,
    tenants: Option<Vec<TenantId>>,
    list: &str,
) -> ListResult<JobView> {
    let list = format!("{list}?{filters:?}");
    let mut filter = filters.filter(app, caller, tenants).await?;
    filter.before = page.after(&list)?;
    let jobs = app.db.jobs.list(&filter, page.fetch_limit()).await;
    let jobs = jobs.map_err(ApiError::from_search)?;
    let slugs = slugs_of(app, &jobs).await?;
    let view = |job: Job| {
        let slug = job.tenant_id.and_then(|id| slugs.get(&id).cloned());
        JobView::new(job, slug, caller)
    };
    let id = |job: &Job| job.id.to_string();
    Ok(Json(page.build(&list, jobs, id, view)))
}
