//! Reports by month and currency: of all tenants for operators, of its own tenants for a partner's staff.
//!
//! They read sums that jobs have added up (`report_months`, `billing_totals`), so that none grows with the number of tenants.

mod build;
mod csv;
mod query;
mod saved;
mod view;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{billing_totals::Scope, report::ReportName};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    query::{ReportQuery, Selection},
    view::ReportView,
};
use crate::{
    error::ApiError,
    extract::{Format, PartnerAccess, PathParam, PlatformReader, QueryParams, ReadWrite},
    read::Get,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(show_own))
        .merge(saved::router())
}

/// Returns a report on all tenants
///
/// Months that are over come from the snapshots at their ends, the current one from those of the last midnight. With
/// `Accept: text/csv`, a CSV file.
#[utoipa::path(
    get, path = "/reports/{name}", operation_id = "getReport", tag = "reports",
    params(("name" = ReportName, Path), ReportQuery),
    responses((status = 200, content((ReportView = "application/json"), (String = "text/csv")))),
)]
async fn show(
    get: Get<PlatformReader, (PathParam<ReportName>, QueryParams<ReportQuery>, Format)>,
) -> Result<Response, ApiError> {
    let (PathParam(name), QueryParams(query), format) = get.params;
    let selection = query.selection(name, get.app.store.now())?;
    build_response(&get.app, Scope::Platform, &selection, format).await
}

/// Returns a report on the tenants of the caller's partner
///
/// For staff with write access. Each month covers the tenants that the partner managed at its end. With
/// `Accept: text/csv`, a CSV file.
#[utoipa::path(
    get, path = "/partner/reports/{name}", operation_id = "getOwnReport", tag = "reports",
    params(("name" = ReportName, Path), ReportQuery),
    responses((status = 200, content((ReportView = "application/json"), (String = "text/csv")))),
)]
async fn show_own(
    get: Get<PartnerAccess<ReadWrite>, (PathParam<ReportName>, QueryParams<ReportQuery>, Format)>,
) -> Result<Response, ApiError> {
    let (PathParam(name), QueryParams(query), format) = get.params;
    let selection = query.selection(name, get.app.store.now())?;
    let scope = Scope::Partner(get.access.partner.id);
    build_response(&get.app, scope, &selection, format).await
}

async fn build_response(
    app: &AppState,
    scope: Scope,
    selection: &Selection,
    format: Format,
) -> Result<Response, ApiError> {
    let report = build::build(app, scope, selection).await?;
    Ok(match format {
        Format::Json => (format, Json(report)).into_response(),
        Format::Csv => csv::file(&report),
    })
}
