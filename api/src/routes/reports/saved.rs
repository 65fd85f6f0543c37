//! Saved reports: parameters under a name, for their owner only. The owner's rights are checked on each use.

mod create;
mod view;

use axum::{Json, response::Response};
use dezky_shared::{
    audit::{Action, Target},
    billing_totals::Scope,
    id::{SavedReportId, UserId},
    report::SavedReport,
    store::VersionedRepository as _,
};
use http::StatusCode;
use mongodb::ClientSession;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::view::SavedReportView;
use super::{build_response, query::ReportQuery, view::ReportView};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        Caller, EmptyBody, Format, Operator, Page, PageOf, PartnerAccess, PathParam,
        PlatformReader, QueryParams, ReadWrite,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show, delete))
        .routes(routes!(result))
        .routes(routes!(list_own, create::create_own))
        .routes(routes!(show_own, delete_own))
        .routes(routes!(result_own))
}

/// Owner and scope of saved reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Owner {
    user: UserId,
    scope: Scope,
}

impl Owner {
    fn operator(caller: &Caller) -> Self {
        Self {
            user: caller.user.id,
            scope: Scope::Platform,
        }
    }
}

impl From<&PartnerAccess<ReadWrite>> for Owner {
    fn from(access: &PartnerAccess<ReadWrite>) -> Self {
        Self {
            user: access.caller.user.id,
            scope: Scope::Partner(access.partner.id),
        }
    }
}

impl Owner {
    fn owns(self, report: &SavedReport) -> bool {
        report.owner_id == self.user && report.scope == self.scope.to_string()
    }

    /// The saved report. That of another owner is 404.
    async fn find(self, app: &AppState, id: SavedReportId) -> Result<SavedReport, ApiError> {
        let found = app.db.saved_reports.find(id).await?;
        let own = found.filter(|report| self.owns(report));
        Ok(own.ok_or(ProblemCode::NotFound)?)
    }

    async fn list(self, app: &AppState, page: &Page) -> ListResult<SavedReportView> {
        let list = format!("saved?{}&{}", self.user, self.scope);
        let after: Option<SavedReportId> = page.after(&list)?;
        let (repository, limit) = (&app.db.saved_reports, page.fetch_limit());
        let found = repository.list(self.user, self.scope, after, limit).await?;
        let id = |report: &SavedReport| report.id.to_string();
        Ok(Json(page.build(&list, found, id, SavedReportView::from)))
    }

    async fn show(self, app: &AppState, id: SavedReportId) -> Result<ApiResponse, ApiError> {
        let report = self.find(app, id).await?;
        Ok(respond(report))
    }

    async fn result(
        self,
        app: &AppState,
        id: SavedReportId,
        format: Format,
    ) -> Result<Response, ApiError> {
        let saved = self.find(app, id).await?;
        let now = app.store.now();
        let query = ReportQuery::saved(&saved.query, now);
        let selection = query.selection(saved.query.report, now)?;
        build_response(app, self.scope, &selection, format).await
    }
}

/// 200 with the saved report and its version.
fn respond(report: SavedReport) -> ApiResponse {
    let etag = ETag::of_revision(report.revision);
    ApiResponse::new(StatusCode::OK, etag, &SavedReportView::from(report))
}

/// Lists the caller's saved reports on all tenants, oldest first
#[utoipa::path(
    get, path = "/reports/saved", operation_id = "listSavedReports", tag = "reports", params(Page),
    responses((status = 200, body = PageOf<SavedReportView>)),
)]
async fn list(get: Get<PlatformReader, QueryParams<Page>>) -> ListResult<SavedReportView> {
    Owner::operator(&get.access.0)
        .list(&get.app, &get.params.0)
        .await
}

/// Lists the caller's saved reports on the tenants of their partner, oldest first
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/reports/saved", operation_id = "listOwnSavedReports", tag = "reports", params(Page),
    responses((status = 200, body = PageOf<SavedReportView>)),
)]
async fn list_own(
    get: Get<PartnerAccess<ReadWrite>, QueryParams<Page>>,
) -> ListResult<SavedReportView> {
    Owner::from(&get.access).list(&get.app, &get.params.0).await
}

/// Returns a saved report of the caller on all tenants
#[utoipa::path(
    get, path = "/reports/saved/{id}", operation_id = "getSavedReport", tag = "reports",
    responses((status = 200, body = SavedReportView)),
)]
async fn show(get: Get<PlatformReader, PathParam<SavedReportId>>) -> Result<ApiResponse, ApiError> {
    Owner::operator(&get.access.0)
        .show(&get.app, get.params.0)
        .await
}

/// Returns a saved report of the caller on the tenants of their partner
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/reports/saved/{id}", operation_id = "getOwnSavedReport", tag = "reports",
    responses((status = 200, body = SavedReportView)),
)]
async fn show_own(
    get: Get<PartnerAccess<ReadWrite>, PathParam<SavedReportId>>,
) -> Result<ApiResponse, ApiError> {
    Owner::from(&get.access).show(&get.app, get.params.0).await
}

/// Returns the report that a saved report of the caller describes, on all tenants
///
/// With `Accept: text/csv`, a CSV file.
#[utoipa::path(
    get, path = "/reports/saved/{id}/result", operation_id = "getSavedReportResult", tag = "reports",
    responses((status = 200, content((ReportView = "application/json"), (String = "text/csv")))),
)]
async fn result(
    get: Get<PlatformReader, (PathParam<SavedReportId>, Format)>,
) -> Result<Response, ApiError> {
    let (PathParam(id), format) = get.params;
    let owner = Owner::operator(&get.access.0);
    owner.result(&get.app, id, format).await
}

/// Returns the report that a saved report of the caller describes, on the tenants of their partner
///
/// For staff with write access. With `Accept: text/csv`, a CSV file.
#[utoipa::path(
    get, path = "/partner/reports/saved/{id}/result", operation_id = "getOwnSavedReportResult", tag = "reports",
    responses((status = 200, content((ReportView = "application/json"), (String = "text/csv")))),
)]
async fn result_own(
    get: Get<PartnerAccess<ReadWrite>, (PathParam<SavedReportId>, Format)>,
) -> Result<Response, ApiError> {
    let (PathParam(id), format) = get.params;
    Owner::from(&get.access).result(&get.app, id, format).await
}

/// Deletes a saved report of the caller on all tenants, and returns it
#[utoipa::path(
    delete, path = "/reports/saved/{id}", operation_id = "deleteSavedReport", tag = "reports",
    responses((status = 200, body = SavedReportView)),
)]
async fn delete(
    w: Write<Operator, EmptyBody, PathParam<SavedReportId>>,
) -> Result<ApiResponse, ApiError> {
    let owner = Owner::operator(&w.access.0);
    let id = w.params.0;
    w.run(&Delete { owner, id }).await
}

/// Deletes a saved report of the caller on the tenants of their partner, and returns it
///
/// For staff with write access.
#[utoipa::path(
    delete, path = "/partner/reports/saved/{id}", operation_id = "deleteOwnSavedReport", tag = "reports",
    responses((status = 200, body = SavedReportView)),
)]
async fn delete_own(
    w: Write<PartnerAccess<ReadWrite>, EmptyBody, PathParam<SavedReportId>>,
) -> Result<ApiResponse, ApiError> {
    let owner = Owner::from(&w.access);
    let id = w.params.0;
    w.run(&Delete { owner, id }).await
}

struct Delete {
    owner: Owner,
    id: SavedReportId,
}

/// A saved report as the target of an audit event.
fn target(report: &SavedReport) -> Target {
    Target::new("savedReport", report.id, &report.name)
}

impl Command for Delete {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let repository = &app.db.saved_reports;
        let found = repository.find_in_transaction(session, self.id).await?;
        let own = found.filter(|report| self.owner.owns(report));
        let report = own.ok_or(ProblemCode::NotFound)?;
        runner.if_match.check(ETag::of_revision(report.revision))?;
        repository.delete(session, self.id).await?;
        let fields = audited_fields(&report)?;
        let event = runner
            .event(
                app.store.now(),
                Action::SavedReportDelete,
                target(&report),
                None,
            )
            .with_changes(&fields, &bson::Document::new());
        let mut response = respond(report);
        response.etag = None;
        Ok(CommandOutput::complete(response, event))
    }
}
