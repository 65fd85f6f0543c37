//! Ledger of partners: balances and entries, for the partner's staff and for operators, and amounts that operators write.

use axum::Json;
use bson::doc;
use dezky_shared::{
    audit::{Action, Target},
    id::{LedgerEntryId, PartnerId},
    ledger::{EntryKind, LedgerEntry, PartnerBalance},
    money::exponent,
    partner::Partner,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    extract::{
        Operator, Page, PageOf, PartnerAccess, PathParam, PlatformReader, QueryParams, ReadWrite,
        Validate,
    },
    read::{Get, ListResult},
    response::ApiResponse,
    state::{AppState, SharedState},
    timestamp::Timestamp,
    validate::{self, Validator, invoice, money},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

pub(super) fn router() -> OpenApiRouter<SharedState> {
    OpenApiRouter::new()
        .routes(routes!(own_balances))
        .routes(routes!(own_entries))
        .routes(routes!(balances))
        .routes(routes!(entries, adjust))
}

/// A balance of a partner, in minor units of its currency.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = PartnerBalance)]
struct BalanceView {
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Number of decimal places of the minor unit.
    #[schema(minimum = 0, maximum = 3)]
    exponent: u8,
    /// Shares of paid invoices.
    accrued_minor: i64,
    /// Shares that were taken back.
    reversed_minor: i64,
    /// Amounts that operators wrote.
    adjusted_minor: i64,
    /// Amount that no payout settles yet. Negative if more was taken back than is owed.
    unsettled_minor: i64,
    /// Amount of the payouts that are not paid yet.
    pending_minor: i64,
    /// Amount of the paid payouts.
    paid_out_minor: i64,
}

/// An entry of a partner's ledger.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = LedgerEntry)]
struct EntryView {
    /// Id.
    #[schema(format = Uuid)]
    id: String,
    /// Kind: `accrual` (a share of a paid invoice), `reversal` (a share that is taken back) or `adjustment`.
    kind: EntryKind,
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Amount, in minor units: positive if the partner is owed it.
    amount_minor: i64,
    /// Tenant id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    tenant_id: Option<String>,
    /// Invoice id.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    invoice_id: Option<String>,
    /// Net amount of the invoice that was left, in minor units.
    #[serde(skip_serializing_if = "Option::is_none")]
    base_minor: Option<i64>,
    /// Margin, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    margin_pct: Option<f64>,
    /// Reason for the adjustment.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Time of the payment or reduction.
    occurred_at: Timestamp,
    /// Time of recording.
    recorded_at: Timestamp,
    /// Id of the payout that settles it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = Uuid)]
    payout_id: Option<String>,
}

impl From<PartnerBalance> for BalanceView {
    fn from(balance: PartnerBalance) -> Self {
        Self {
            exponent: exponent(&balance.currency),
            currency: balance.currency,
            accrued_minor: balance.accrued_minor,
            reversed_minor: balance.reversed_minor,
            adjusted_minor: balance.adjusted_minor,
            unsettled_minor: balance.unsettled_minor,
            pending_minor: balance.pending_minor,
            paid_out_minor: balance.paid_out_minor,
        }
    }
}

impl From<LedgerEntry> for EntryView {
    fn from(entry: LedgerEntry) -> Self {
        Self {
            id: entry.id.to_string(),
            kind: entry.kind,
            currency: entry.currency,
            amount_minor: entry.amount_minor,
            tenant_id: entry.tenant_id.map(|id| id.to_string()),
            invoice_id: entry.invoice_id.map(|id| id.to_string()),
            base_minor: entry.base_minor,
            margin_pct: entry.margin_basis_points.map(validate::partner::in_percent),
            reason: entry.reason,
            occurred_at: entry.occurred_at.into(),
            recorded_at: entry.recorded_at.into(),
            payout_id: entry.payout_id.map(|id| id.to_string()),
        }
    }
}

/// Returns the balances of the caller's partner, one for each currency
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/balances", operation_id = "listOwnBalances", tag = "partner",
    responses((status = 200, body = PageOf<BalanceView>)),
)]
async fn own_balances(get: Get<PartnerAccess<ReadWrite>>) -> ListResult<BalanceView> {
    balances_of(&get.app, get.access.partner.id).await
}

/// Returns the balances of a partner, one for each currency
#[utoipa::path(
    get, path = "/partners/{slug}/balances", operation_id = "listPartnerBalances", tag = "partners",
    responses((status = 200, body = PageOf<BalanceView>)),
)]
async fn balances(get: Get<PlatformReader, PathParam<String>>) -> ListResult<BalanceView> {
    balances_of(&get.app, find(&get.app, &get.params.0).await?.id).await
}

async fn balances_of(app: &AppState, partner: PartnerId) -> ListResult<BalanceView> {
    let balances = app.db.ledger.list_balances(partner).await?;
    let views = balances.into_iter().map(BalanceView::from);
    Ok(Json(PageOf::single(views.collect())))
}

/// Lists the ledger of the caller's partner, newest entry first
///
/// For staff with write access.
#[utoipa::path(
    get, path = "/partner/ledger", operation_id = "listOwnLedger", tag = "partner", params(Page),
    responses((status = 200, body = PageOf<EntryView>)),
)]
async fn own_entries(
    get: Get<PartnerAccess<ReadWrite>, QueryParams<Page>>,
) -> ListResult<EntryView> {
    entries_of(&get.app, get.access.partner.id, &get.params.0).await
}

/// Lists the ledger of a partner, newest entry first
#[utoipa::path(
    get, path = "/partners/{slug}/ledger", operation_id = "listPartnerLedger", tag = "partners", params(Page),
    responses((status = 200, body = PageOf<EntryView>)),
)]
async fn entries(
    get: Get<PlatformReader, (PathParam<String>, QueryParams<Page>)>,
) -> ListResult<EntryView> {
    let (PathParam(slug), QueryParams(page)) = get.params;
    entries_of(&get.app, find(&get.app, &slug).await?.id, &page).await
}

async fn entries_of(app: &AppState, partner: PartnerId, page: &Page) -> ListResult<EntryView> {
    let list = format!("ledger?{partner}");
    let before: Option<LedgerEntryId> = page.after(&list)?;
    let ledger = &app.db.ledger;
    let found = ledger.list_entries(partner, before, page.fetch_limit());
    let id = |entry: &LedgerEntry| entry.id.to_string();
    Ok(Json(page.build(&list, found.await?, id, EntryView::from)))
}

async fn find(app: &AppState, slug: &str) -> Result<Partner, ApiError> {
    let partner = app.db.partners.find_by_slug(slug).await?;
    Ok(partner.ok_or(ProblemCode::NotFound)?)
}

/// An amount for a partner's ledger.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = LedgerEntryCreate)]
struct AdjustRequest {
    /// Currency (ISO 4217).
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// Amount, in minor units, not 0: positive if the partner is owed it.
    #[schema(minimum = -1_000_000_000_000_i64, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Reason, which the partner sees.
    #[schema(min_length = 1, max_length = 120)]
    reason: String,
}

/// A validated amount.
#[derive(Debug)]
struct NewEntry {
    currency: String,
    amount_minor: i64,
    reason: String,
}

impl Validate for NewEntry {
    type Raw = AdjustRequest;

    fn validate(raw: AdjustRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let currency = validator.check("/currency", money::currency(&raw.currency));
        let amount_minor = validator.check("/amountMinor", invoice::amount(raw.amount_minor));
        let reason = validator.check("/reason", validate::name(&raw.reason));
        validator.build(|| {
            Some(Self {
                currency: currency?,
                amount_minor: amount_minor?,
                reason: reason?,
            })
        })
    }
}

/// Writes an amount to a partner's ledger
///
/// An entry is never changed: write the opposite amount to take it back.
#[utoipa::path(
    post, path = "/partners/{slug}/ledger", operation_id = "adjustPartnerLedger", tag = "partners",
    request_body = AdjustRequest,
    responses((status = 201, body = EntryView)),
)]
async fn adjust(w: Write<Operator, NewEntry, PathParam<String>>) -> Result<ApiResponse, ApiError> {
    let adjustment = Adjustment {
        partner: find(&w.app, &w.params.0).await?,
        new: &w.body,
    };
    w.run(&adjustment).await
}

struct Adjustment<'a> {
    partner: Partner,
    new: &'a NewEntry,
}

impl Command for Adjustment<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let (partner, new, now) = (&self.partner, self.new, runner.app.store.now());
        let entry = LedgerEntry {
            id: LedgerEntryId::new(),
            partner_id: partner.id,
            kind: EntryKind::Adjustment,
            currency: new.currency.clone(),
            amount_minor: new.amount_minor,
            tenant_id: None,
            invoice_id: None,
            sequence: None,
            base_minor: None,
            margin_basis_points: None,
            reason: Some(new.reason.clone()),
            occurred_at: now,
            recorded_at: now,
            payout_id: None,
        };
        runner.app.db.ledger.append(session, &entry).await?;
        let target = Target::new("partner", partner.id, &partner.slug);
        let mut event = runner.event(now, Action::LedgerAdjust, target, None);
        event.after = doc! {
            "currency": &new.currency, "amountMinor": new.amount_minor, "reason": &new.reason,
        };
        let location = format!("/partners/{}/ledger", partner.slug);
        let view = EntryView::from(entry);
        let response = ApiResponse::unversioned(StatusCode::CREATED, &view).at(location);
        Ok(CommandOutput::complete(response, event))
    }
}
