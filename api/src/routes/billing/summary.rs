//! Monthly summaries of billing by currency, for operators and for a partner's staff.

use std::collections::BTreeMap;

use axum::Json;
use dezky_shared::{
    billing::{month::Month, monthly_equivalent},
    billing_totals::{MonthTotals, Scope},
    ledger::PartnerBalance,
    money::exponent,
    report::ReportMonth,
    store::report_months::Part,
};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use crate::{
    error::ApiError,
    extract::{FromQuery, Parameters, PartnerAccess, PlatformReader, QueryParams, ReadWrite},
    read::Get,
    state::AppState,
};

/// Billing of a month, by the time of recording: a month that is over never changes.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = BillingSummary)]
pub(super) struct SummaryView {
    /// Month (UTC).
    #[schema(value_type = String, pattern = "^[0-9]{4}-[0-9]{2}$", example = "2026-11")]
    month: Month,
    /// Whether the month is over.
    complete: bool,
    /// Amounts by currency, which are never converted.
    currencies: Vec<CurrencyView>,
}

/// Billing of a month in one currency, in its minor units.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = CurrencySummary)]
struct CurrencyView {
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Number of decimal places of the minor unit.
    #[schema(minimum = 0, maximum = 3)]
    exponent: u8,
    /// Monthly recurring revenue at the end of the month, or at the last midnight. Missing without snapshots.
    #[serde(skip_serializing_if = "Option::is_none")]
    mrr_minor: Option<i64>,
    /// Net amounts of the invoices that were issued, less corrections.
    billed_minor: i64,
    /// Net amounts of the invoices that were voided.
    voided_minor: i64,
    /// Net amounts that were paid, less corrections.
    paid_minor: i64,
    /// Partners' shares of paid invoices.
    accrued_minor: i64,
    /// Shares that were taken back.
    reversed_minor: i64,
    /// Amounts that operators wrote to partners' ledgers.
    adjusted_minor: i64,
    /// For operators: the paid amount that is owed to no partner.
    #[serde(skip_serializing_if = "Option::is_none")]
    platform_minor: Option<i64>,
    /// For partners: the current amount that no payout settles yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    unsettled_minor: Option<i64>,
    /// For partners: the current amount of the payouts that are not paid yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pending_minor: Option<i64>,
}

impl From<MonthTotals> for CurrencyView {
    fn from(totals: MonthTotals) -> Self {
        Self {
            exponent: exponent(&totals.currency),
            currency: totals.currency,
            mrr_minor: None,
            billed_minor: totals.billed_minor,
            voided_minor: totals.voided_minor,
            paid_minor: totals.paid_minor,
            accrued_minor: totals.accrued_minor,
            reversed_minor: totals.reversed_minor,
            adjusted_minor: totals.adjusted_minor,
            platform_minor: None,
            unsettled_minor: None,
            pending_minor: None,
        }
    }
}

/// Month of a summary.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SummaryQuery {
    /// Month (UTC). Default: the current one.
    #[param(value_type = Option<String>, pattern = "^[0-9]{4}-(0[1-9]|1[0-2])$", example = "2026-11")]
    month: Option<Month>,
}

impl FromQuery for SummaryQuery {
    fn from_query(parameters: &mut Parameters) -> Result<Self, ApiError> {
        let month = parameters.take("month", "a month such as 2026-11")?;
        Ok(Self { month })
    }
}

/// Returns the amounts billed, paid and credited to partners in a month
#[utoipa::path(
    get, path = "/billing/summary", operation_id = "getBillingSummary", tag = "billing", params(SummaryQuery),
    responses((status = 200, body = SummaryView)),
)]
pub(super) async fn platform(
    get: Get<PlatformReader, QueryParams<SummaryQuery>>,
) -> Result<Json<SummaryView>, ApiError> {
    let summary = Summary::read(&get.app, Scope::Platform, &get.params.0).await?;
    let with_rest = |totals: MonthTotals| CurrencyView {
        platform_minor: Some(totals.paid_minor - totals.partner_share_minor()),
        ..CurrencyView::from(totals)
    };
    Ok(Json(summary.view(&get.app, with_rest, Vec::new())))
}

/// Returns the amounts billed, paid and credited to the caller's partner in a month
///
/// For staff with write access. Invoices count for the partner that managed the tenant when they were issued.
#[utoipa::path(
    get, path = "/partner/billing/summary", operation_id = "getOwnBillingSummary", tag = "partner", params(SummaryQuery),
    responses((status = 200, body = SummaryView)),
)]
pub(super) async fn partner(
    get: Get<PartnerAccess<ReadWrite>, QueryParams<SummaryQuery>>,
) -> Result<Json<SummaryView>, ApiError> {
    let partner = get.access.partner.id;
    let scope = Scope::Partner(partner);
    let summary = Summary::read(&get.app, scope, &get.params.0).await?;
    let balances = get.app.db.ledger.list_balances(partner).await?;
    Ok(Json(summary.view(&get.app, CurrencyView::from, balances)))
}

/// Data of a billing summary.
struct Summary {
    month: Month,
    totals: Vec<MonthTotals>,
    sums: Option<ReportMonth>,
}

impl Summary {
    async fn read(app: &AppState, scope: Scope, query: &SummaryQuery) -> Result<Self, ApiError> {
        let month = query.month.unwrap_or_else(|| Month::of(app.store.now()));
        let (months, sums) = ([month], &app.db.report_months);
        let (totals, mut sums) = tokio::try_join!(
            app.db.billing_totals.list(scope, month, month),
            sums.list(scope, &months, Part::Revenue),
        )?;
        Ok(Self {
            month,
            totals,
            sums: sums.pop(),
        })
    }

    /// The summary, also of currencies in which nothing was recorded in the month.
    fn view(
        self,
        app: &AppState,
        of_totals: impl Fn(MonthTotals) -> CurrencyView,
        balances: Vec<PartnerBalance>,
    ) -> SummaryView {
        let month = self.month;
        let mut views: BTreeMap<String, CurrencyView> = BTreeMap::new();
        for totals in self.totals {
            views.insert(totals.currency.clone(), of_totals(totals));
        }
        let mut view_of = |currency: String, change: &dyn Fn(&mut CurrencyView)| {
            let empty = || of_totals(MonthTotals::new(month, currency.clone()));
            change(views.entry(currency.clone()).or_insert_with(empty));
        };
        for balance in balances {
            view_of(balance.currency, &|view| {
                view.unsettled_minor = Some(balance.unsettled_minor);
                view.pending_minor = Some(balance.pending_minor);
            });
        }
        let currencies = self.sums.into_iter().flat_map(|sums| sums.currencies);
        for (currency, of_currency) in currencies {
            let mrr = monthly_equivalent(of_currency.total.end.arr_minor);
            view_of(currency, &|view| view.mrr_minor = Some(mrr));
        }
        SummaryView {
            month,
            complete: month.end() <= app.store.now(),
            currencies: views.into_values().collect(),
        }
    }
}
