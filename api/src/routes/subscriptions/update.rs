//! Update and cancellation of a subscription.

use bson::DateTime;
use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan},
    id::SubscriptionId,
    money::to_stripe,
    queue::{args::SyncBilling, job::Job},
    store::{VersionedRepository as _, jobs::NewJob},
    subscription::{Biller, CollectionMethod, EndedBy, Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    SubscriptionView,
    free_period::{end_free_period, enqueue_invoice},
    respond, target,
};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, Operator, PathParam, Validate},
    response::ApiResponse,
    routes::billing::{is_billed, is_synced},
    state::AppState,
    validate::{self, EnumName, FieldPatch, Validator, double_option, money},
    views::job_href,
    write::{Command, CommandOutput, CommandRunner, Rollback, Write, audited_fields},
};

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionPatch)]
pub(super) struct PatchRequest {
    /// Plan: `starter`, `business` or `enterprise`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Plan)]
    plan: Option<String>,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Cycle)]
    cycle: Option<String>,
    /// Number of seats.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 1, maximum = 100_000)]
    seats: Option<i64>,
    /// Currency (ISO 4217).
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: Option<String>,
    /// Price per billing cycle for all seats, in minor units. Default after a change of plan, cycle or currency: the
    /// plan's current price.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: Option<i64>,
    /// Whether the invoices are billed to the tenant's partner, which then has no share in them.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    partner_billed: Option<bool>,
    /// Collection of the next invoices: `manual`, `send_invoice`, by which Stripe sends them, or `charge_automatically`, by
    /// which Stripe bills the subscription to the card. The biller changes with the end of the last invoiced period.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = CollectionMethod)]
    collection_method: Option<String>,
    /// Status: `active` or `past_due` (an invoice is overdue). To cancel a subscription, delete it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = LiveStatus)]
    status: Option<String>,
    /// Start time.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, format = DateTime)]
    started_at: Option<String>,
    /// Start of the next billing cycle.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    renews_at: FieldPatch<String>,
    /// Whether the subscription ends with the last invoiced period. Only for a tenant that is invoiced here.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = bool)]
    cancel_at_period_end: Option<bool>,
}

/// Validated fields to change.
#[derive(Debug)]
pub(super) struct Patch {
    plan: Option<Plan>,
    cycle: Option<Cycle>,
    seats: Option<i32>,
    currency: Option<String>,
    price_minor: Option<i64>,
    partner_billed: Option<bool>,
    collection_method: Option<CollectionMethod>,
    status: Option<SubscriptionStatus>,
    started_at: Option<DateTime>,
    renews_at: FieldPatch<DateTime>,
    cancel_at_period_end: Option<bool>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(raw: PatchRequest, _: &Config) -> Result<Self, Vec<FieldError>> {
        let mut validator = Validator::default();
        let patch = Self {
            plan: raw
                .plan
                .and_then(|text| validator.check("/plan", validate::plan(&text))),
            cycle: raw
                .cycle
                .and_then(|text| validator.check("/cycle", money::cycle(&text))),
            seats: raw
                .seats
                .and_then(|seats| validator.check("/seats", money::seats(seats))),
            currency: raw
                .currency
                .and_then(|text| validator.check("/currency", money::currency(&text))),
            price_minor: raw
                .price_minor
                .and_then(|minor| validator.check("/priceMinor", money::price(minor))),
            status: raw
                .status
                .and_then(|text| validator.check("/status", live_status(&text))),
            started_at: raw
                .started_at
                .and_then(|text| validator.check("/startedAt", money::start_date(&text))),
            renews_at: raw
                .renews_at
                .check(&mut validator, "/renewsAt", |text| money::start_date(&text)),
            collection_method: raw.collection_method.and_then(|text| {
                validator.check("/collectionMethod", money::collection_method(&text))
            }),
            partner_billed: raw.partner_billed,
            cancel_at_period_end: raw.cancel_at_period_end,
        };
        validator.finish(Some(patch))
    }
}

/// Status that an update can set.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = SubscriptionStatusUpdate)]
enum LiveStatus {
    /// In force.
    Active,
    /// In force, with an overdue invoice.
    PastDue,
}

fn live_status(text: &str) -> Result<SubscriptionStatus, (&'static str, String)> {
    match text.parse() {
        Ok(EnumName(LiveStatus::Active)) => Ok(SubscriptionStatus::Active),
        Ok(EnumName(LiveStatus::PastDue)) => Ok(SubscriptionStatus::PastDue),
        Err(_) => Err((
            "invalid_status",
            "This must be active or past_due. To cancel a subscription, delete it.".to_owned(),
        )),
    }
}

/// Updates a live subscription
///
/// The provisioned plan does not change: update the tenant for that. Terms of a subscription that is invoiced here count
/// from the next period that has no invoice; its dates, status and currency are fixed. Stripe prorates new terms of one that
/// it bills, at once.
///
/// A price where there was none counts from the next period, or at once, as the installation is configured.
///
/// 202 with the job that brings the change to Stripe, if Stripe bills the subscription, or is to bill it, or with the one that
/// invoices a period which begins at once.
#[utoipa::path(
    patch, path = "/subscriptions/{id}", operation_id = "updateSubscription", tag = "subscriptions",
    request_body = PatchRequest,
    responses((status = 200, body = SubscriptionView), (status = 202, body = SubscriptionView)),
)]
pub(super) async fn update(
    w: Write<Operator, Patch, PathParam<SubscriptionId>>,
) -> Result<ApiResponse, ApiError> {
    let change = SubscriptionChange {
        id: w.params.0,
        update: SubscriptionUpdate::Patch(&w.body),
    };
    w.run(&change).await
}

/// Cancels a subscription
///
/// It ends at once, without a credit for the rest of the period, and can still be read. The provisioned plan does not
/// change. To end it with the last invoiced period, set `cancelAtPeriodEnd`. 202 with the job that ends it at Stripe, if it is
/// billed there.
#[utoipa::path(
    delete, path = "/subscriptions/{id}", operation_id = "cancelSubscription", tag = "subscriptions",
    responses((status = 200, body = SubscriptionView), (status = 202, body = SubscriptionView)),
)]
pub(super) async fn cancel(
    w: Write<Operator, EmptyBody, PathParam<SubscriptionId>>,
) -> Result<ApiResponse, ApiError> {
    let change = SubscriptionChange {
        id: w.params.0,
        update: SubscriptionUpdate::Cancel,
    };
    w.run(&change).await
}

/// The list price of a plan.
pub(super) async fn list_price(
    session: &mut ClientSession,
    app: &AppState,
    plan: Plan,
    cycle: Cycle,
    currency: &str,
) -> Result<i64, Rollback> {
    let prices = &app.db.prices;
    let price = prices.find_of(session, plan, cycle, currency).await?;
    price.map(|price| price.amount_minor).ok_or_else(|| {
        let message = "The plan has no price for this cycle and currency. Set priceMinor.";
        let error = FieldError::at("/priceMinor", "no_price", message);
        ApiError::invalid(vec![error]).into()
    })
}

/// Rejects a subscription that renews before it starts.
pub(super) fn ensure_renewal_after_start(subscription: &Subscription) -> Result<(), ApiError> {
    match (subscription.started_at, subscription.renews_at) {
        (Some(started), Some(renews)) if renews <= started => {
            let message = "This must be later than startedAt.";
            let error = FieldError::at("/renewsAt", "not_after_start", message);
            Err(ApiError::invalid(vec![error]))
        }
        _ => Ok(()),
    }
}

/// Rejects a subscription that is billed to a partner that the tenant does not have.
pub(super) fn ensure_has_partner(
    subscription: &Subscription,
    tenant: Option<&Tenant>,
) -> Result<(), ApiError> {
    let partner = tenant.and_then(|tenant| tenant.partner_id);
    if !subscription.partner_billed || partner.is_some() {
        return Ok(());
    }
    let message = "The tenant has no partner.";
    let error = FieldError::at("/partnerBilled", "needs_partner", message);
    Err(ApiError::invalid(vec![error]))
}

/// Rejects invoices that Stripe is to send and cannot, because it is not configured or cannot charge the price.
pub(super) fn ensure_collectable(
    app: &AppState,
    subscription: &Subscription,
) -> Result<(), ApiError> {
    if subscription.collection_method.is_manual() {
        return Ok(());
    }
    if app.config.stripe.publishable_key.is_none() {
        return Err(ProblemCode::BillingDisabled.into());
    }
    let currency = &subscription.currency;
    if to_stripe(subscription.price_minor, currency).is_none() {
        let message = format!("Stripe cannot charge this amount of {currency}.");
        let error = FieldError::at("/priceMinor", "amount_not_chargeable", message);
        return Err(ApiError::invalid(vec![error]));
    }
    Ok(())
}

/// A change of a subscription.
enum SubscriptionUpdate<'a> {
    Patch(&'a Patch),
    Cancel,
}

struct SubscriptionChange<'a> {
    id: SubscriptionId,
    update: SubscriptionUpdate<'a>,
}

impl Patch {
    /// Rejects changes of fields that follow from the invoices of an enrolled subscription.
    fn ensure_not_managed(&self, subscription: &Subscription) -> Result<(), ProblemCode> {
        if !subscription.is_enrolled() {
            return Ok(());
        }
        if self.status.is_some() || self.started_at.is_some() || !self.renews_at.is_keep() {
            return Err(ProblemCode::ManagedByBilling);
        }
        let currency = self.currency.as_ref();
        if currency.is_some_and(|currency| *currency != subscription.currency) {
            return Err(ProblemCode::CurrencyFixed);
        }
        Ok(())
    }

    /// Rejects a request to end with a period of a tenant that has none.
    fn ensure_billed(&self, is_invoiced: bool) -> Result<(), ProblemCode> {
        if self.cancel_at_period_end == Some(true) && !is_invoiced {
            return Err(ProblemCode::BillingOff);
        }
        Ok(())
    }

    async fn apply(
        &self,
        session: &mut ClientSession,
        app: &AppState,
        subscription: &mut Subscription,
    ) -> Result<(), Rollback> {
        self.ensure_not_managed(subscription)?;
        let (cycle, was_by_card) = (subscription.cycle, subscription.is_by_card());
        let terms = |it: &Subscription| (it.plan, it.cycle, it.currency.clone());
        let before = terms(subscription);
        subscription.plan = self.plan.unwrap_or(subscription.plan);
        subscription.cycle = self.cycle.unwrap_or(subscription.cycle);
        subscription.seats = self.seats.unwrap_or(subscription.seats);
        subscription.status = self.status.unwrap_or(subscription.status);
        let by_partner = self.partner_billed;
        subscription.partner_billed = by_partner.unwrap_or(subscription.partner_billed);
        let collection = self.collection_method;
        subscription.collection_method = collection.unwrap_or(subscription.collection_method);
        subscription.started_at = self.started_at.or(subscription.started_at);
        self.renews_at.apply(&mut subscription.renews_at);
        let ends = self.cancel_at_period_end;
        subscription.cancel_at_period_end = ends.unwrap_or(subscription.cancel_at_period_end);
        if subscription.cycle != cycle && subscription.biller.is_run() {
            subscription.restart_periods();
        }
        if let Some(currency) = &self.currency {
            subscription.currency.clone_from(currency);
        }
        if let Some(minor) = self.price_minor {
            subscription.price_minor = minor;
        } else if terms(subscription) != before {
            let (plan, cycle, currency) = terms(subscription);
            subscription.price_minor = list_price(session, app, plan, cycle, &currency).await?;
        }
        subscription.may_recreate |= subscription.is_by_card() && !was_by_card;
        Ok(ensure_renewal_after_start(subscription)?)
    }
}

impl Command for SubscriptionChange<'_> {
    async fn run(
        &self,
        session: &mut ClientSession,
        runner: &CommandRunner<'_>,
    ) -> Result<CommandOutput, Rollback> {
        let app = runner.app;
        let subscriptions = &app.db.subscriptions;
        let found = subscriptions.find_in_transaction(session, self.id).await?;
        let before = found.ok_or(ProblemCode::NotFound)?;
        let mut after = before.clone();
        runner.if_match.check(ETag::of_revision(before.revision))?;
        let tenants = &app.db.tenants;
        let tenant = tenants.find_in_transaction(session, before.tenant_id);
        let tenant = tenant.await?;
        let tenant = tenant.as_ref();
        let now = app.store.now();
        let is_invoiced = match tenant {
            Some(tenant) => is_billed(app, tenant, now).await?,
            None => false,
        };
        let action = match self.update {
            SubscriptionUpdate::Patch(_) if !before.status.is_live() => {
                return Err(ProblemCode::SubscriptionCancelled.into());
            }
            SubscriptionUpdate::Patch(patch) => {
                patch.ensure_billed(is_invoiced)?;
                patch.apply(session, app, &mut after).await?;
                if is_invoiced {
                    end_free_period(session, app, &before, &mut after, now).await?;
                }
                ensure_collectable(app, &after)?;
                if patch.partner_billed.is_some() {
                    ensure_has_partner(&after, tenant)?;
                }
                Action::SubscriptionUpdate
            }
            SubscriptionUpdate::Cancel => {
                if before.status.is_live() {
                    after.end(now, EndedBy::Operator);
                }
                Action::SubscriptionDelete
            }
        };
        let saved = subscriptions.save_changed(session, &before, &mut after, now);
        if !saved.await? {
            return Ok(CommandOutput::unchanged(respond(before, tenant)));
        }
        let event = runner
            .event(now, action, target(self.id, tenant), tenant)
            .with_changes(&audited_fields(&before)?, &audited_fields(&after)?);
        let job = match sync(session, runner, tenant, [&before, &after], now).await? {
            Some(job) => Some(job),
            None => enqueue_invoice(session, runner, [&before, &after], now).await?,
        };
        let Some(job) = job else {
            return Ok(CommandOutput::complete(respond(after, tenant), event));
        };
        let etag = ETag::of_revision(after.revision);
        let view = SubscriptionView::new(after, tenant).with_job(&job);
        let response = ApiResponse::new(StatusCode::ACCEPTED, etag, &view).at(job_href(job.id));
        Ok(CommandOutput::complete(response, event).with_jobs(vec![job]))
    }
}

/// The job that makes Stripe follow the change of a subscription that it bills, or is to bill.
async fn sync(
    session: &mut ClientSession,
    runner: &CommandRunner<'_>,
    tenant: Option<&Tenant>,
    versions: [&Subscription; 2],
    now: DateTime,
) -> Result<Option<Job>, Rollback> {
    let is_there = |it: &&Subscription| it.biller == Biller::Stripe || it.is_by_card();
    let Some(tenant) = tenant.filter(|_| versions.iter().any(is_there)) else {
        return Ok(None);
    };
    if !is_synced(runner.app, tenant, now).await? {
        return Ok(None);
    }
    let args = SyncBilling {
        tenant_id: tenant.id,
        dry_run: false,
    };
    let job = NewJob::new(&args, &runner.actor_id(), now)?;
    Ok(Some(runner.enqueue(session, job).await?))
}
