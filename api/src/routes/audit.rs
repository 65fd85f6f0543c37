//! The audit trail: who changed what. Its own page of it for each tenant, all of it for operators.
//!
//! An operator's address and e-mail are shown to operators alone, and nobody else finds them by filtering for them.

mod export;
mod query;
mod verify;
mod view;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{audit::AuditEvent, store::audit::AuditCursor, tenant::Tenant};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::{
    export::Format,
    query::{AuditQuery, PlatformQuery},
    view::AuditEventView,
};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{Caller, Operator, Page, PageOf, QueryParams, ReadPrivate, TenantAccess},
    state::SharedState,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(list_of_tenant))
        .routes(routes!(verify::platform))
        .routes(routes!(verify::tenant))
}

/// The audit trail of all tenants and of the platform, newest first
///
/// With `Accept: text/csv` all that the filters let through, as a file.
#[utoipa::path(
    get, path = "/audit", operation_id = "listAuditEvents", tag = "audit",
    params(PlatformQuery, AuditQuery, Page, ("Accept" = Option<String>, Header)),
    responses(
        (status = 200, content((PageOf<AuditEventView> = "application/json"), (String = "text/csv"))),
        (status = "default", response = Problem),
    ),
)]
async fn list(
    Operator(caller): Operator,
    QueryParams(query): QueryParams<PlatformQuery>,
    format: Format,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    let tenant = match &query.tenant {
        None => None,
        Some(slug) => Some(app.tenants.find_by_slug(slug).await?.ok_or_else(|| {
            let message = "There is no such tenant.";
            ApiError::invalid(vec![FieldError::parameter(
                "tenant",
                "unknown_tenant",
                message,
            )])
        })?),
    };
    answer(&app, &caller, query.events, tenant.as_ref(), format).await
}

/// A tenant's audit trail, newest first
///
/// For its owners and admins, its partner's staff, and operators. With `Accept: text/csv` all that the filters let
/// through, as a file.
#[utoipa::path(
    get, path = "/tenants/{slug}/audit", operation_id = "listTenantAuditEvents", tag = "audit",
    params(("slug" = String, Path), AuditQuery, Page, ("Accept" = Option<String>, Header)),
    responses(
        (status = 200, content((PageOf<AuditEventView> = "application/json"), (String = "text/csv"))),
        (status = "default", response = Problem),
    ),
)]
async fn list_of_tenant(
    access: TenantAccess<ReadPrivate>,
    QueryParams(query): QueryParams<AuditQuery>,
    format: Format,
    State(app): State<SharedState>,
) -> Result<Response, ApiError> {
    answer(&app, &access.caller, query, Some(&access.tenant), format).await
}

async fn answer(
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
    let found = app.audit.list(&filter, after, page.fetch_limit()).await;
    let events = found.map_err(ApiError::from_search)?;
    let place = |event: &AuditEvent| AuditCursor::from(event).to_string();
    let view = |event| AuditEventView::new(event, caller);
    let page: PageOf<AuditEventView> = page.build(&list, events, place, view);
    Ok((format, Json(page)).into_response())
}
