//! Doing something to many jobs at once, for operators.

mod create;
mod view;

use std::collections::BTreeMap;

use axum::{Json, extract::State};
use dezky_shared::{
    id::{JobId, JobOperationId},
    queue::{
        job::Job,
        job_operation::{ItemOutcome, JobOperation},
    },
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{ItemView, JobOperationView};
use crate::{
    error::{ApiError, Problem, ProblemCode},
    extract::{FromQuery, Operator, Page, PageOf, Parameters, PathParam, QueryParams},
    state::{AppState, SharedState},
    validate,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show))
        .routes(routes!(list_items))
}

/// The operations, newest first
#[utoipa::path(
    get, path = "/job-operations", operation_id = "listJobOperations", tag = "job operations", params(Page),
    responses((status = 200, body = PageOf<JobOperationView>), (status = "default", response = Problem)),
)]
async fn list(
    _: Operator,
    QueryParams(page): QueryParams<Page>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<JobOperationView>>, ApiError> {
    let list = "job-operations";
    let before = page.after(list)?;
    let operations = app.job_operations.list(before, page.fetch_limit()).await?;
    let jobs = jobs_of(&app, &operations).await?;
    Ok(Json(page.build(
        list,
        operations,
        |operation| operation.id.to_string(),
        |operation| {
            let job = jobs.get(&operation.job_id);
            JobOperationView::new(operation, job)
        },
    )))
}

/// An operation
///
/// Its job says whether it is under way: watch that, or cancel it.
#[utoipa::path(
    get, path = "/job-operations/{id}", operation_id = "getJobOperation", tag = "job operations",
    params(("id" = String, Path)),
    responses((status = 200, body = JobOperationView), (status = "default", response = Problem)),
)]
async fn show(
    _: Operator,
    PathParam(id): PathParam<JobOperationId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
) -> Result<Json<JobOperationView>, ApiError> {
    let operation = app
        .job_operations
        .find(id)
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let job = app.jobs.find(operation.job_id).await?;
    Ok(Json(JobOperationView::new(operation, job.as_ref())))
}

/// Which items are asked for.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ItemsQuery {
    /// Only with this outcome.
    #[param(value_type = Option<String>, pattern = "^(pending|done|skipped|refused)$", example = "refused")]
    outcome: Option<ItemOutcome>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ItemsQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let expected = "pending, done, skipped or refused";
        Ok(Self {
            outcome: parameters
                .take::<validate::EnumName<ItemOutcome>>("outcome", expected)?
                .map(|validate::EnumName(outcome)| outcome),
            page: Page::from_query(parameters)?,
        })
    }
}

/// What became of each job of an operation, in the order in which they have their turn
#[utoipa::path(
    get, path = "/job-operations/{id}/items", operation_id = "listJobOperationItems", tag = "job operations",
    params(("id" = String, Path), ItemsQuery, Page),
    responses((status = 200, body = PageOf<ItemView>), (status = "default", response = Problem)),
)]
async fn list_items(
    _: Operator,
    PathParam(id): PathParam<JobOperationId>,
    QueryParams(query): QueryParams<ItemsQuery>,
    State(app): State<SharedState>,
) -> Result<Json<PageOf<ItemView>>, ApiError> {
    let list = format!("job-operations/{id}/items?{:?}", query.outcome);
    let after = query.page.after(&list)?.unwrap_or(0);
    app.job_operations
        .find(id)
        .await?
        .ok_or(ProblemCode::NotFound)?;
    let items = app
        .job_operations
        .list_items(id, query.outcome, after, query.page.fetch_limit())
        .await?;
    Ok(Json(query.page.build(
        &list,
        items,
        |item| item.n.to_string(),
        ItemView::from,
    )))
}

async fn jobs_of(
    app: &AppState,
    operations: &[JobOperation],
) -> Result<BTreeMap<JobId, Job>, ApiError> {
    let ids: Vec<JobId> = operations
        .iter()
        .map(|operation| operation.job_id)
        .collect();
    let jobs = app.jobs.list_by_ids(&ids).await?;
    Ok(jobs.into_iter().map(|job| (job.id, job)).collect())
}
