//! Imports of members: many new members from one file. Each import is a job; its rows are the report.

mod create;
mod file;
mod passwords;
mod view;

use axum::Json;
use dezky_shared::{
    id::{MemberImportId, TenantId},
    member_import::{ImportRow, MemberImport, RowOutcome},
};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::{ImportView, RowView};
use crate::{
    error::{ApiError, ProblemCode},
    extract::{
        FromQuery, Page, PageOf, Parameters, PathId, QueryParams, ReadPrivate, TenantAccess,
    },
    read::{Get, ListResult},
    routes::jobs::jobs_by_id,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(create::create))
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(list_rows))
        .routes(routes!(passwords::fetch))
}

/// Lists the imports of a tenant, newest first
///
/// An import is kept for 30 days. For owners and admins of the tenant, staff of its partner, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/users/imports", operation_id = "listTenantUserImports", tag = "tenant users",
    params(Page),
    responses((status = 200, body = PageOf<ImportView>)),
)]
async fn list(get: Get<TenantAccess<ReadPrivate>, QueryParams<Page>>) -> ListResult<ImportView> {
    let QueryParams(page) = get.params;
    let tenant = get.access.tenant.id;
    let list = format!("tenants/{tenant}/users/imports");
    let imports = &get.app.db.member_imports;
    let imports = imports
        .list(tenant, page.after(&list)?, page.fetch_limit())
        .await?;
    let ids = imports.iter().map(|import| import.job_id);
    let jobs = jobs_by_id(&get.app, ids).await?;
    let id = |import: &MemberImport| import.id.to_string();
    let view = |import: MemberImport| {
        let job = jobs.get(&import.job_id);
        ImportView::new(import, job)
    };
    Ok(Json(page.build(&list, imports, id, view)))
}

/// Returns an import
///
/// Its job carries out the import: poll the job for progress.
#[utoipa::path(
    get, path = "/tenants/{slug}/users/imports/{id}", operation_id = "getTenantUserImport", tag = "tenant users",
    responses((status = 200, body = ImportView)),
)]
async fn show(
    get: Get<TenantAccess<ReadPrivate>, PathId<MemberImportId>>,
) -> Result<Json<ImportView>, ApiError> {
    let import = find(&get.app, get.access.tenant.id, get.params.0).await?;
    let job = get.app.db.jobs.find(import.job_id).await?;
    Ok(Json(ImportView::new(import, job.as_ref())))
}

/// Filter of a row list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct RowsQuery {
    /// Outcome.
    #[param(example = "refused")]
    outcome: Option<RowOutcome>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for RowsQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            outcome: parameters.variant("outcome", "pending, created, exists or refused")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the rows of an import with their outcomes, in the order of the file
#[utoipa::path(
    get, path = "/tenants/{slug}/users/imports/{id}/rows", operation_id = "listTenantUserImportRows", tag = "tenant users",
    params(RowsQuery, Page),
    responses((status = 200, body = PageOf<RowView>)),
)]
async fn list_rows(
    get: Get<TenantAccess<ReadPrivate>, (PathId<MemberImportId>, QueryParams<RowsQuery>)>,
) -> ListResult<RowView> {
    let (PathId(id), QueryParams(query)) = get.params;
    let list = format!("imports/{id}/rows?{:?}", query.outcome);
    let after = query.page.after(&list)?.unwrap_or(0);
    find(&get.app, get.access.tenant.id, id).await?;
    let (imports, limit) = (&get.app.db.member_imports, query.page.fetch_limit());
    let rows = imports.list_rows(id, query.outcome, after, limit).await?;
    let n = |row: &ImportRow| row.n.to_string();
    let now = get.app.store.now();
    let view = |row: ImportRow| RowView::new(&row, now);
    Ok(Json(query.page.build(&list, rows, n, view)))
}

/// The import with this id; 404 if the tenant has none.
async fn find(
    app: &AppState,
    tenant: TenantId,
    id: MemberImportId,
) -> Result<MemberImport, ApiError> {
    let import = app.db.member_imports.find(tenant, id).await?;
    Ok(import.ok_or(ProblemCode::NotFound)?)
}
