//! Audit trail: one per tenant, and all of them for operators.
//!
//! The IP and e-mail addresses of operators are visible to operators only; filters do not match them for other callers.

mod export;
mod query;
mod verify;
mod view;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{audit::AuditEvent, store::audit::AuditCursor, tenant::Tenant};
use futures::StreamExt as _;
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    query::{AuditQuery, PlatformQuery},
    view::AuditEventView,
};
use crate::{
    error::{ApiError, FieldError},
    extract::{
        Caller, Format, Page, PageOf, PlatformReader, QueryParams, ReadPrivate, TenantAccess,
    },
    read::Get,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_tenant))
        .routes(routes!(verify::platform))
        .routes(routes!(verify::tenant))
}

/// Lists audit events of all tenants and of the platform, newest first
///
/// With `Accept: text/csv`, exports all events that match the filters.
#[utoipa::path(
    get, path = "/audit", operation_id = "listAuditEvents", tag = "audit",
    params(PlatformQuery, AuditQuery, Page),
    responses(
        (status = 200, content((PageOf<AuditEventView> = "application/json"), (String = "text/csv"))),
    ),
)]
async fn list(
    get: Get<PlatformReader, (QueryParams<PlatformQuery>, Format)>,
) -> Result<Response, ApiError> {
    let (QueryParams(query), format) = get.params;
    let tenant = match &query.tenant {
        None => None,
        Some(slug) => Some(named_tenant(&get.app, slug).await?),
    };
    let (app, PlatformReader(caller)) = (&get.app, &get.access);
    respond(app, caller, query.events, tenant.as_ref(), format).await
}

/// The tenant of the filter. 422 if it does not exist.
async fn named_tenant(app: &AppState, slug: &str) -> Result<Tenant, ApiError> {
    let tenant = app.db.tenants.find_by_slug(slug).await?;
    tenant.ok_or_else(|| {
        let message = "The tenant does not exist.";
        ApiError::invalid(vec![FieldError::parameter(
            "tenant",
            "unknown_tenant",
            message,
        )])
    })
}

/// Lists the audit events of a tenant, newest first
///
/// For owners and admins of the tenant, staff of its partner, and operators. With `Accept: text/csv`, exports all
/// events that match the filters.
#[utoipa::path(
    get, path = "/tenants/{slug}/audit", operation_id = "listTenantAuditEvents", tag = "audit",
    params(AuditQuery, Page),
    responses(
        (status = 200, content((PageOf<AuditEventView> = "application/json"), (String = "text/csv"))),
    ),
)]
async fn list_of_tenant(
    get: Get<TenantAccess<ReadPrivate>, (QueryParams<AuditQuery>, Format)>,
) -> Result<Response, ApiError> {
    let (QueryParams(query), format) = get.params;
    let (caller, tenant) = (&get.access.caller, &get.access.tenant);
    respond(&get.app, caller, query, Some(tenant), format).await
}

async fn respond(
    app: &SharedState,
    caller: &Caller,
    query: AuditQuery,
    tenant: Option<&Tenant>,
    format: Format,
) -> Result<Response, ApiError> {
    let (filter, page) = (query.filter(caller, tenant), &query.page);
    if format == Format::Csv {
        return export::export(app, caller, &filter, tenant).await;
    }
    let list = format!("audit?{filter:?}");
    let after: Option<AuditCursor> = page.after(&list)?;
    let found = app.db.audit.list(&filter, after, page.fetch_limit()).await;
    let events = found.map_err(ApiError::from_search)?;
    let cursor = |event: &AuditEvent| AuditCursor::from(event).to_string();
    let view = |event| AuditEventView::new(event, caller);
    let page = page.collect(&list, events.boxed(), cursor, view).await;
    let page: PageOf<AuditEventView> = page.map_err(ApiError::from_search)?;
    Ok((format, Json(page)).into_response())
}
