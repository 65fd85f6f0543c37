//! A new price.

use axum::extract::State;
use bson::Document;
use dezky_shared::{
    audit::Action,
    billing::{Cycle, Plan, Price},
    id::PriceId,
    store::TransactionError,
};
use futures::{FutureExt as _, future::BoxFuture};
use http::StatusCode;
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{PriceView, answer, audited, target};
use crate::{
    error::{ApiError, FieldError, Problem},
    extract::{Operator, QueryParams, RequestInfo, Validate, ValidatedJson},
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    validate::{self, Validator, money},
};

/// What a plan is to cost.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = NewPrice)]
pub(super) struct CreateRequest {
    /// Of what: `starter`, `business` or `enterprise`.
    #[schema(pattern = "^(starter|business|enterprise)$")]
    plan: String,
    /// Paid how often: `monthly`, `quarterly` or `yearly`.
    #[schema(pattern = "^(monthly|quarterly|yearly)$")]
    cycle: String,
    /// ISO 4217.
    #[schema(pattern = "^[A-Z]{3}$", example = "DKK")]
    currency: String,
    /// What a cycle costs, in minor units of the currency.
    #[schema(minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: i64,
    /// Its id at Stripe.
    #[schema(pattern = "^price_[A-Za-z0-9_]+$", max_length = 255)]
    stripe_price_id: Option<String>,
}

/// A price to be set.
#[derive(Debug)]
pub(super) struct NewPrice {
    plan: Plan,
    cycle: Cycle,
    currency: String,
    amount_minor: i64,
    stripe_price_id: Option<String>,
}

impl Validate for NewPrice {
    type Raw = CreateRequest;

    fn validate(wire: CreateRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let plan = checks.check("/plan", validate::plan(&wire.plan));
        let cycle = checks.check("/cycle", money::cycle(&wire.cycle));
        let currency = checks.check("/currency", money::currency(&wire.currency));
        let amount_minor = checks.check("/amountMinor", money::price(wire.amount_minor));
        let stripe_price_id = wire
            .stripe_price_id
            .and_then(|text| checks.check("/stripePriceId", money::stripe_price_id(&text)));
        let whole = plan.zip(cycle).zip(currency).zip(amount_minor);
        checks.finish(whole.map(|(((plan, cycle), currency), amount_minor)| Self {
            plan,
            cycle,
            currency,
            amount_minor,
            stripe_price_id,
        }))
    }
}

/// Sets a price
///
/// A plan has one for each cycle and currency.
#[utoipa::path(
    post, path = "/prices", operation_id = "createPrice", tag = "prices", request_body = CreateRequest,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, body = PriceView), (status = "default", response = Problem)),
)]
pub(super) async fn create(
    Operator(caller): Operator,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    submitted: ValidatedJson<NewPrice>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let create = Create {
        id: PriceId::new(),
        new: &submitted.body,
    };
    Ok(recorder.record(&create).await?.answer)
}

struct Create<'a> {
    id: PriceId,
    new: &'a NewPrice,
}

impl Command for Create<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let app = recorder.app;
            let now = app.store.now();
            let price = Price {
                id: self.id,
                plan: self.new.plan,
                cycle: self.new.cycle,
                currency: self.new.currency.clone(),
                amount_minor: self.new.amount_minor,
                stripe_price_id: self.new.stripe_price_id.clone(),
                revision: 1,
                created_at: now,
                updated_at: now,
            };
            app.prices.insert(session, &price).await?;
            let event = recorder
                .event(now, Action::PriceCreate, target(&price)?, None)
                .with_changes(&Document::new(), &audited(&price)?);
            let mut answer = answer(price).map_err(reject)?;
            answer.status = StatusCode::CREATED;
            Ok(CommandOutput::complete(
                answer.at(format!("/prices/{}", self.id)),
                event,
            ))
        }
        .boxed()
    }
}
