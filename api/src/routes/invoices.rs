//! Invoices of tenants: lists for all who may see them, adjustments, payment and voiding by operators, and refreshes.

mod actions;
mod adjust;
mod refresh;
mod view;

use axum::{
    Json,
    response::{IntoResponse as _, Response},
};
use dezky_shared::{
    id::InvoiceId,
    invoice::{Invoice, InvoiceStatus},
    store::invoices::InvoiceFilter,
};
use http::{StatusCode, header};
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};

pub(super) use self::{
    actions::{Payment, PaymentRequest},
    view::InvoiceView,
};
use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        FromQuery, Page, PageOf, Parameters, PartnerAccess, PathId, PlatformReader, QueryParams,
        ReadBilling, ReadWrite, TenantAccess,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list_all))
        .routes(routes!(list_of_partner))
        .routes(routes!(list, adjust::create))
        .routes(routes!(show))
        .routes(routes!(show_pdf))
        .routes(routes!(actions::void))
        .routes(routes!(actions::mark_paid))
        .routes(routes!(refresh::refresh))
}

/// Filter of an invoice list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Status: `draft`, `open`, `paid`, `uncollectible` or `void`.
    status: Option<InvoiceStatus>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.variant("status", "draft, open, paid, uncollectible or void")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the invoices of all tenants, newest first
#[utoipa::path(
    get, path = "/invoices", operation_id = "listInvoices", tag = "billing", params(ListQuery, Page),
    responses((status = 200, body = PageOf<InvoiceView>)),
)]
async fn list_all(get: Get<PlatformReader, QueryParams<ListQuery>>) -> ListResult<InvoiceView> {
    page(&get.app, InvoiceFilter::default(), get.params.0).await
}

/// Lists the invoices of the tenants that the caller's partner managed when they were issued, newest first
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/invoices", operation_id = "listPartnerInvoices", tag = "partner", params(ListQuery, Page),
    responses((status = 200, body = PageOf<InvoiceView>)),
)]
async fn list_of_partner(
    get: Get<PartnerAccess<ReadWrite>, QueryParams<ListQuery>>,
) -> ListResult<InvoiceView> {
    let filter = InvoiceFilter {
        partner_id: Some(get.access.partner.id),
        ..InvoiceFilter::default()
    };
    page(&get.app, filter, get.params.0).await
}

/// Lists the invoices of a tenant, newest first
///
/// For owners and admins of the tenant, staff of its partner with write access, and operators.
#[utoipa::path(
    get, path = "/tenants/{slug}/invoices", operation_id = "listTenantInvoices", tag = "billing", params(ListQuery, Page),
    responses((status = 200, body = PageOf<InvoiceView>)),
)]
async fn list(
    get: Get<TenantAccess<ReadBilling>, QueryParams<ListQuery>>,
) -> ListResult<InvoiceView> {
    let filter = InvoiceFilter {
        tenant_id: Some(get.access.tenant.id),
        ..InvoiceFilter::default()
    };
    page(&get.app, filter, get.params.0).await
}

async fn page(app: &AppState, filter: InvoiceFilter, query: ListQuery) -> ListResult<InvoiceView> {
    let InvoiceFilter {
        tenant_id,
        partner_id,
        ..
    } = filter;
    let list = format!("invoices?{tenant_id:?}&{partner_id:?}&{:?}", query.status);
    let filter = InvoiceFilter {
        status: query.status,
        before: query.page.after(&list)?,
        ..filter
    };
    let found = app.db.invoices.list(&filter, query.page.fetch_limit());
    let id = |invoice: &Invoice| invoice.id.to_string();
    Ok(Json(query.page.build(
        &list,
        found.await?,
        id,
        InvoiceView::from,
    )))
}

/// Returns an invoice
#[utoipa::path(
    get, path = "/tenants/{slug}/invoices/{id}", operation_id = "getInvoice", tag = "billing",
    responses((status = 200, body = InvoiceView), (status = 304)),
)]
async fn show(
    get: Get<TenantAccess<ReadBilling>, PathId<InvoiceId>>,
) -> Result<Response, ApiError> {
    let (invoices, tenant) = (&get.app.db.invoices, get.access.tenant.id);
    let found = invoices.find_of(tenant, get.params.0).await?;
    let invoice = found.ok_or(ProblemCode::NotFound)?;
    let etag = ETag::of_revision(invoice.revision);
    let view = InvoiceView::with_link(invoice);
    Ok(ApiResponse::conditional(&get.if_none_match, etag, &view))
}

/// Redirects to the PDF of an invoice of the payment provider
#[utoipa::path(
    get, path = "/tenants/{slug}/invoices/{id}/pdf", operation_id = "getInvoicePdf", tag = "billing",
    responses((status = 302)),
)]
async fn show_pdf(
    get: Get<TenantAccess<ReadBilling>, PathId<InvoiceId>>,
) -> Result<Response, ApiError> {
    let (invoices, tenant) = (&get.app.db.invoices, get.access.tenant.id);
    let found = invoices.find_of(tenant, get.params.0).await?;
    let invoice = found.ok_or(ProblemCode::NotFound)?;
    let pdf = invoice.stripe.and_then(|stripe| stripe.pdf_url);
    let pdf = pdf.ok_or(ProblemCode::NoDocument)?;
    Ok((StatusCode::FOUND, [(header::LOCATION, pdf)]).into_response())
}

/// 200 with the invoice and its version.
fn respond(invoice: Invoice) -> ApiResponse {
    let etag = ETag::of_revision(invoice.revision);
    ApiResponse::new(StatusCode::OK, etag, &InvoiceView::from(invoice))
}
