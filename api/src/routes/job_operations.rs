//! Bulk operations on jobs. For operators.

mod create;
mod view;

use axum::Json;
use dezky_shared::{
    id::JobOperationId,
    queue::job_operation::{ItemOutcome, JobOperation, JobOperationItem},
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{ItemView, JobOperationView};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{FromQuery, Page, PageOf, Parameters, PathParam, PlatformReader, QueryParams},
    read::{Get, ListResult},
    routes::jobs::jobs_by_id,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show))
        .routes(routes!(list_items))
}

/// Lists job operations, newest first
#[utoipa::path(
    get, path = "/job-operations", operation_id = "listJobOperations", tag = "job operations", params(Page),
    responses((status = 200, body = PageOf<JobOperationView>)),
)]
async fn list(get: Get<PlatformReader, QueryParams<Page>>) -> ListResult<JobOperationView> {
    let QueryParams(page) = get.params;
    let list = "job-operations";
    let before = page.after(list)?;
    let operations = get.app.db.job_operations.list(before, page.fetch_limit());
    let operations = operations.await?;
    let ids = operations.iter().map(|operation| operation.job_id);
    let jobs = jobs_by_id(&get.app, ids).await?;
    let id = |operation: &JobOperation| operation.id.to_string();
    let view = |operation: JobOperation| {
        let job = jobs.get(&operation.job_id);
        JobOperationView::new(operation, job)
    };
    Ok(Json(page.build(list, operations, id, view)))
}

/// Returns a job operation
///
/// Its job carries out the operation: poll the job for progress, or cancel it.
#[utoipa::path(get, path = "/job-operations/{id}", operation_id = "getJobOperation", tag = "job operations", responses((status = 200, body = JobOperationView)))]
async fn show(
    get: Get<PlatformReader, PathParam<JobOperationId>>,
) -> Result<Json<JobOperationView>, ApiError> {
    let operation = find(&get.app, get.params.0).await?;
    let job = get.app.db.jobs.find(operation.job_id).await?;
    Ok(Json(JobOperationView::new(operation, job.as_ref())))
}

/// Filter of an item list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ItemsQuery {
    /// Outcome.
    #[param(example = "refused")]
    outcome: Option<ItemOutcome>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ItemsQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            outcome: parameters.variant("outcome", "pending, done, skipped or refused")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the items of a job operation, in processing order
#[utoipa::path(
    get, path = "/job-operations/{id}/items", operation_id = "listJobOperationItems", tag = "job operations",
    params(ItemsQuery, Page),
    responses((status = 200, body = PageOf<ItemView>)),
)]
async fn list_items(
    get: Get<PlatformReader, (PathParam<JobOperationId>, QueryParams<ItemsQuery>)>,
) -> ListResult<ItemView> {
    let (PathParam(id), QueryParams(query)) = get.params;
    let list = format!("job-operations/{id}/items?{:?}", query.outcome);
    let after = query.page.after(&list)?.unwrap_or(0);
    find(&get.app, id).await?;
    let (operations, limit) = (&get.app.db.job_operations, query.page.fetch_limit());
    let items = operations.list_items(id, query.outcome, after, limit);
    let n = |item: &JobOperationItem| item.n.to_string();
    Ok(Json(query.page.build(
        &list,
        items.await?,
        n,
        ItemView::from,
    )))
}

async fn find(app: &AppState, id: JobOperationId) -> Result<JobOperation, ApiError> {
    let operation = app.db.job_operations.find(id).await?;
    Ok(operation.ok_or(ProblemCode::NotFound)?)
}
