//! Update and cancellation of a subscription.

use bson::DateTime;
use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan},
    id::SubscriptionId,
    store::VersionedRepository as _,
    subscription::{Subscription, SubscriptionStatus},
};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{SubscriptionView, audited, respond, target};
use crate::{
    config::Config,
    error::{ApiError, FieldError, ProblemCode},
    etag::ETag,
    extract::{EmptyBody, Operator, PathParam, Validate},
    response::ApiResponse,
    state::AppState,
    validate::{self, FieldPatch, Validator, double_option, money},
    write::{Command, CommandOutput, CommandRunner, Rollback, Write},
};

/// Fields to change. Missing fields stay; null removes.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionPatch)]
pub(super) struct PatchRequest {
    /// Plan: `starter`, `business` or `enterprise`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Option<String>,
    /// Billing cycle: `monthly`, `quarterly` or `yearly`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(monthly|quarterly|yearly)$")]
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
    /// Status: `active` or `past_due` (an invoice is overdue). To cancel a subscription, delete it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(active|past_due)$")]
    status: Option<String>,
    /// Start time.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, format = DateTime)]
    started_at: Option<String>,
    /// Start of the next billing cycle.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    renews_at: FieldPatch<String>,
}

/// Validated fields to change.
#[derive(Debug)]
pub(super) struct Patch {
    plan: Option<Plan>,
    cycle: Option<Cycle>,
    seats: Option<i32>,
    currency: Option<String>,
    price_minor: Option<i64>,
    status: Option<SubscriptionStatus>,
    started_at: Option<DateTime>,
    renews_at: FieldPatch<DateTime>,
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
        };
        validator.finish(Some(patch))
    }
}

fn live_status(text: &str) -> Result<SubscriptionStatus, (&'static str, String)> {
    match text {
        "active" => Ok(SubscriptionStatus::Active),
        "past_due" => Ok(SubscriptionStatus::PastDue),
        _ => Err((
            "invalid_status",
            "This must be active or past_due. To cancel a subscription, delete it.".to_owned(),
        )),
    }
}

/// Updates a live subscription
///
/// The provisioned plan does not change: update the tenant for that.
#[utoipa::path(
    patch, path = "/subscriptions/{id}", operation_id = "updateSubscription", tag = "subscriptions",
    request_body = PatchRequest,
    responses((status = 200, body = SubscriptionView)),
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
/// It ends at once and can still be read. The provisioned plan does not change.
#[utoipa::path(
    delete, path = "/subscriptions/{id}", operation_id = "cancelSubscription", tag = "subscriptions",
    responses((status = 200, body = SubscriptionView)),
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
    async fn apply(
        &self,
        session: &mut ClientSession,
        app: &AppState,
        subscription: &mut Subscription,
    ) -> Result<(), Rollback> {
        let terms = |it: &Subscription| (it.plan, it.cycle, it.currency.clone());
        let before = terms(subscription);
        subscription.plan = self.plan.unwrap_or(subscription.plan);
        subscription.cycle = self.cycle.unwrap_or(subscription.cycle);
        subscription.seats = self.seats.unwrap_or(subscription.seats);
        subscription.status = self.status.unwrap_or(subscription.status);
        subscription.started_at = self.started_at.or(subscription.started_at);
        self.renews_at.apply(&mut subscription.renews_at);
        if let Some(currency) = &self.currency {
            subscription.currency.clone_from(currency);
        }
        if let Some(minor) = self.price_minor {
            subscription.price_minor = minor;
        } else if terms(subscription) != before {
            let (plan, cycle, currency) = terms(subscription);
            subscription.price_minor = list_price(session, app, plan, cycle, &currency).await?;
        }
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
        let action = match self.update {
            SubscriptionUpdate::Patch(_) if !before.status.is_live() => {
                return Err(ProblemCode::SubscriptionCancelled.into());
            }
            SubscriptionUpdate::Patch(patch) => {
                patch.apply(session, app, &mut after).await?;
                Action::SubscriptionUpdate
            }
            SubscriptionUpdate::Cancel => {
                if before.status.is_live() {
                    after.status = SubscriptionStatus::Cancelled;
                    after.cancelled_at = Some(now);
                    after.renews_at = None;
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
            .with_changes(&audited(&before)?, &audited(&after)?);
        Ok(CommandOutput::complete(respond(after, tenant), event))
    }
}
