//! Payouts to partners: created by the closing of a month or by request, paid outside, and marked as paid by operators.

mod actions;
mod create;

use axum::{Json, response::Response};
use dezky_shared::{
    billing::month::Month,
    id::PayoutId,
    ledger::{Payout, PayoutStatus},
    money::exponent,
    store::{VersionedRepository as _, payouts::PayoutFilter},
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    error::{ApiError, ProblemCode},
    etag::ETag,
    extract::{
        FromQuery, IfNoneMatch, Page, PageOf, Parameters, PartnerAccess, PathParam, PlatformReader,
        QueryParams, ReadWrite,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    timestamp::Timestamp,
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(list, create::create))
        .routes(routes!(show))
        .routes(routes!(list_own))
        .routes(routes!(show_own))
        .routes(routes!(actions::mark_paid))
        .routes(routes!(actions::cancel))
}

/// A payout: the balance owed to a partner at the end of a month, in one currency.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Payout)]
struct PayoutView {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Partner id.
    #[schema(format = Uuid)]
    partner_id: String,
    /// Month whose entries, and those left over from months before, it settles.
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Number of decimal places of the minor unit.
    #[schema(minimum = 0, maximum = 3)]
    exponent: u8,
    /// Amount, in minor units.
    #[schema(minimum = 1)]
    amount_minor: i64,
    /// Number of ledger entries that it settles.
    #[schema(minimum = 1)]
    entry_count: i64,
    /// Status: `pending`, `paid` or `cancelled`.
    status: PayoutStatus,
    /// Time of payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<Timestamp>,
    /// Reference of the payment.
    #[serde(skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    /// Incremented by every change.
    revision: i64,
    /// Creation time.
    created_at: Timestamp,
    /// Time of the last change.
    updated_at: Timestamp,
}

impl From<Payout> for PayoutView {
    fn from(payout: Payout) -> Self {
        Self {
            id: payout.id.to_string(),
            partner_id: payout.partner_id.to_string(),
            month: payout.month,
            exponent: exponent(&payout.currency),
            currency: payout.currency,
            amount_minor: payout.amount_minor,
            entry_count: payout.entry_count,
            status: payout.status,
            paid_at: payout.paid_at.map(Timestamp::from),
            reference: payout.reference,
            revision: payout.revision,
            created_at: payout.created_at.into(),
            updated_at: payout.updated_at.into(),
        }
    }
}

/// Filter of a payout list.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
struct ListQuery {
    /// Status: `pending`, `paid` or `cancelled`.
    status: Option<PayoutStatus>,
    #[param(ignore)]
    page: Page,
}

impl FromQuery for ListQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        Ok(Self {
            status: parameters.variant("status", "pending, paid or cancelled")?,
            page: Page::from_query(parameters)?,
        })
    }
}

/// Lists the payouts to all partners, the last month first
#[utoipa::path(
    get, path = "/payouts", operation_id = "listPayouts", tag = "partners", params(ListQuery, Page),
    responses((status = 200, body = PageOf<PayoutView>)),
)]
async fn list(get: Get<PlatformReader, QueryParams<ListQuery>>) -> ListResult<PayoutView> {
    page(&get.app, PayoutFilter::default(), get.params.0).await
}

/// Lists the payouts to the caller's partner, the last month first
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/payouts", operation_id = "listOwnPayouts", tag = "partner", params(ListQuery, Page),
    responses((status = 200, body = PageOf<PayoutView>)),
)]
async fn list_own(
    get: Get<PartnerAccess<ReadWrite>, QueryParams<ListQuery>>,
) -> ListResult<PayoutView> {
    let filter = PayoutFilter {
        partner_id: Some(get.access.partner.id),
        ..PayoutFilter::default()
    };
    page(&get.app, filter, get.params.0).await
}

async fn page(app: &AppState, filter: PayoutFilter, query: ListQuery) -> ListResult<PayoutView> {
    let list = format!("payouts?{:?}&{:?}", filter.partner_id, query.status);
    let filter = PayoutFilter {
        status: query.status,
        before: query.page.after(&list)?,
        ..filter
    };
    let found = app.db.payouts.list(&filter, query.page.fetch_limit());
    let id = |payout: &Payout| payout.id.to_string();
    let page = query.page.build(&list, found.await?, id, PayoutView::from);
    Ok(Json(page))
}

/// Returns a payout
#[utoipa::path(
    get, path = "/payouts/{id}", operation_id = "getPayout", tag = "partners",
    responses((status = 200, body = PayoutView), (status = 304)),
)]
async fn show(get: Get<PlatformReader, PathParam<PayoutId>>) -> Result<Response, ApiError> {
    let found = get.app.db.payouts.find(get.params.0).await?;
    respond(found, &get.if_none_match)
}

/// Returns a payout to the caller's partner
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/payouts/{id}", operation_id = "getOwnPayout", tag = "partner",
    responses((status = 200, body = PayoutView), (status = 304)),
)]
async fn show_own(
    get: Get<PartnerAccess<ReadWrite>, PathParam<PayoutId>>,
) -> Result<Response, ApiError> {
    let found = get.app.db.payouts.find(get.params.0).await?;
    let own = found.filter(|payout| payout.partner_id == get.access.partner.id);
    respond(own, &get.if_none_match)
}

fn respond(found: Option<Payout>, if_none_match: &IfNoneMatch) -> Result<Response, ApiError> {
    let payout = found.ok_or(ProblemCode::NotFound)?;
    let etag = ETag::of_revision(payout.revision);
    let view = PayoutView::from(payout);
    Ok(ApiResponse::conditional(if_none_match, etag, &view))
}
