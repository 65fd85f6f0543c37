//! Changing and cancelling a subscription.

use axum::extract::State;
use bson::DateTime;
use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan},
    id::SubscriptionId,
    store::TransactionError,
    subscription::{Subscription, SubscriptionStatus},
};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{SubscriptionView, answer, audited, target};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, IfMatch, Operator, PathParam, QueryParams, RequestInfo, Validate,
        ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    validate::{self, Validator, double_option, money},
};

/// What is to change. What is missing stays; null removes.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = SubscriptionPatch)]
pub(super) struct PatchRequest {
    /// What is paid for: `starter`, `business` or `enterprise`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(starter|business|enterprise)$")]
    plan: Option<String>,
    /// How often: `monthly`, `quarterly` or `yearly`.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(monthly|quarterly|yearly)$")]
    cycle: Option<String>,
    /// For how many people.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 1, maximum = 100_000)]
    seats: Option<i64>,
    /// ISO 4217.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: Option<String>,
    /// What a cycle costs, for all seats together, in minor units of the currency. Unless it is said, a change of
    /// plan, cycle or currency takes the price that the plan has then.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64)]
    price_minor: Option<i64>,
    /// Whether an invoice is overdue: `active` or `past_due`. To cancel, delete it.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, pattern = "^(active|past_due)$")]
    status: Option<String>,
    /// When it began.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = String, format = DateTime)]
    started_at: Option<String>,
    /// When the next cycle begins.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, format = DateTime)]
    renews_at: Option<Option<String>>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(super) struct Patch {
    plan: Option<Plan>,
    cycle: Option<Cycle>,
    seats: Option<i32>,
    currency: Option<String>,
    price_minor: Option<i64>,
    status: Option<SubscriptionStatus>,
    started_at: Option<DateTime>,
    renews_at: Option<Option<DateTime>>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let patch = Self {
            plan: wire
                .plan
                .and_then(|text| checks.check("/plan", validate::plan(&text))),
            cycle: wire
                .cycle
                .and_then(|text| checks.check("/cycle", money::cycle(&text))),
            seats: wire
                .seats
                .and_then(|seats| checks.check("/seats", money::seats(seats))),
            currency: wire
                .currency
                .and_then(|text| checks.check("/currency", money::currency(&text))),
            price_minor: wire
                .price_minor
                .and_then(|minor| checks.check("/priceMinor", money::price(minor))),
            status: wire
                .status
                .and_then(|text| checks.check("/status", status_in_force(&text))),
            started_at: wire
                .started_at
                .and_then(|text| checks.check("/startedAt", money::start_date(&text))),
            renews_at: wire.renews_at.map(|text| {
                text.and_then(|text| checks.check("/renewsAt", money::start_date(&text)))
            }),
        };
        checks.finish(Some(patch))
    }
}

fn status_in_force(text: &str) -> Result<SubscriptionStatus, (&'static str, String)> {
    match text {
        "active" => Ok(SubscriptionStatus::Active),
        "past_due" => Ok(SubscriptionStatus::PastDue),
        _ => Err((
            "invalid_status",
            "This must be active or past_due. To cancel a subscription, delete it.".to_owned(),
        )),
    }
}

/// Changes a subscription that is in force
///
/// What the tenant has stays as it is: change the plan of the tenant for that.
#[utoipa::path(
    patch, path = "/subscriptions/{id}", operation_id = "updateSubscription", tag = "subscriptions",
    request_body = PatchRequest,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = SubscriptionView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    Operator(caller): Operator,
    PathParam(id): PathParam<SubscriptionId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let change = SubscriptionChange {
        id,
        wish: Wish::Patch(&submitted.body),
        if_match: &if_match,
    };
    Ok(recorder.record(&change).await?.answer)
}

/// Cancels a subscription
///
/// It is over at once, and stays to be looked at. What the tenant has stays as it is.
#[utoipa::path(
    delete, path = "/subscriptions/{id}", operation_id = "cancelSubscription", tag = "subscriptions",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = SubscriptionView), (status = "default", response = Problem)),
)]
pub(super) async fn cancel(
    Operator(caller): Operator,
    PathParam(id): PathParam<SubscriptionId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let change = SubscriptionChange {
        id,
        wish: Wish::Cancel,
        if_match: &if_match,
    };
    Ok(recorder.record(&change).await?.answer)
}

/// What a plan costs by the list.
pub(super) async fn list_price(
    session: &mut ClientSession,
    app: &AppState,
    plan: Plan,
    cycle: Cycle,
    currency: &str,
) -> Result<i64, TransactionError<CommandError>> {
    let price = app.prices.find_of(session, plan, cycle, currency).await?;
    price.map(|price| price.amount_minor).ok_or_else(|| {
        let message = "The plan has no price for this cycle in this currency: say what it costs.";
        let error = FieldError::at("/priceMinor", "no_price", message);
        reject(ApiError::invalid(vec![error]))
    })
}

/// Refuses a subscription that would renew before it begins.
pub(super) fn check_order(subscription: &Subscription) -> Result<(), ApiError> {
    match (subscription.started_at, subscription.renews_at) {
        (Some(started), Some(renews)) if renews <= started => {
            let message = "A subscription renews after it began.";
            let error = FieldError::at("/renewsAt", "not_after_start", message);
            Err(ApiError::invalid(vec![error]))
        }
        _ => Ok(()),
    }
}

/// What is wanted of a subscription.
enum Wish<'a> {
    Patch(&'a Patch),
    Cancel,
}

struct SubscriptionChange<'a> {
    id: SubscriptionId,
    wish: Wish<'a>,
    if_match: &'a IfMatch,
}

impl Patch {
    async fn apply(
        &self,
        session: &mut ClientSession,
        app: &AppState,
        subscription: &mut Subscription,
    ) -> Result<(), TransactionError<CommandError>> {
        let sold = |it: &Subscription| (it.plan, it.cycle, it.currency.clone());
        let before = sold(subscription);
        subscription.plan = self.plan.unwrap_or(subscription.plan);
        subscription.cycle = self.cycle.unwrap_or(subscription.cycle);
        subscription.seats = self.seats.unwrap_or(subscription.seats);
        subscription.status = self.status.unwrap_or(subscription.status);
        subscription.started_at = self.started_at.or(subscription.started_at);
        subscription.renews_at = self.renews_at.unwrap_or(subscription.renews_at);
        if let Some(currency) = &self.currency {
            subscription.currency.clone_from(currency);
        }
        if let Some(minor) = self.price_minor {
            subscription.price_minor = minor;
        } else if sold(subscription) != before {
            let (plan, cycle, currency) = sold(subscription);
            subscription.price_minor = list_price(session, app, plan, cycle, &currency).await?;
        }
        check_order(subscription).map_err(reject)
    }
}

impl Command for SubscriptionChange<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let locked = app.subscriptions.find_for_update(session, self.id).await?;
            let mut changed = locked.ok_or_else(|| reject(ProblemCode::NotFound))?;
            changed.revision -= 1;
            let known = changed.clone();
            self.if_match
                .check(ETag::of_revision(known.revision))
                .map_err(reject)?;
            let tenant = app
                .tenants
                .find_in_transaction(session, known.tenant_id)
                .await?;
            let tenant = tenant.as_ref();
            let now = app.store.now();
            let action = match self.wish {
                Wish::Patch(_) if !known.status.is_live() => {
                    return Err(reject(ProblemCode::SubscriptionCancelled));
                }
                Wish::Patch(patch) => {
                    patch.apply(session, app, &mut changed).await?;
                    Action::SubscriptionUpdate
                }
                Wish::Cancel => {
                    if known.status.is_live() {
                        changed.status = SubscriptionStatus::Cancelled;
                        changed.cancelled_at = Some(now);
                        changed.renews_at = None;
                    }
                    Action::SubscriptionDelete
                }
            };
            if changed == known {
                app.subscriptions.unlock(session, self.id).await?;
                return Ok(CommandOutput::unchanged(
                    answer(known, tenant).map_err(reject)?,
                ));
            }
            changed.revision += 1;
            changed.updated_at = now;
            app.subscriptions.save(session, &changed).await?;
            let event = recorder
                .event(now, action, target(&changed, tenant), tenant)
                .with_changes(&audited(&known)?, &audited(&changed)?);
            let answer = answer(changed, tenant).map_err(reject)?;
            Ok(CommandOutput::complete(answer, event))
        }
        .boxed()
    }
}
