//! Changing a price, and taking it away.

use axum::extract::State;
use bson::Document;
use dezky_shared::{audit::Action, id::PriceId, store::TransactionError};
use futures::{FutureExt as _, future::BoxFuture};
use mongodb::ClientSession;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{PriceView, answer, audited, target};
use crate::{
    error::{ApiError, FieldError, Problem, ProblemCode},
    extract::{
        ETag, EmptyBody, IfMatch, Operator, PathParam, QueryParams, RequestInfo, Validate,
        ValidatedJson,
    },
    intent::{ApiResponse, Command, CommandError, CommandOutput, CommandRunner, reject},
    state::{AppState, SharedState},
    validate::{Validator, double_option, money},
};

/// What is to change. What is missing stays; null removes.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = PricePatch)]
pub(super) struct PatchRequest {
    /// What a cycle costs, in minor units of the currency.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = i64, minimum = 0, maximum = 1_000_000_000_000_i64)]
    amount_minor: Option<i64>,
    /// Its id at Stripe.
    #[serde(default, deserialize_with = "double_option")]
    #[schema(value_type = Option<String>, pattern = "^price_[A-Za-z0-9_]+$", max_length = 255)]
    stripe_price_id: Option<Option<String>>,
}

/// What is to change.
#[expect(
    clippy::option_option,
    reason = "missing, null and a value are three things"
)]
#[derive(Debug)]
pub(super) struct Patch {
    amount_minor: Option<i64>,
    stripe_price_id: Option<Option<String>>,
}

impl Validate for Patch {
    type Raw = PatchRequest;

    fn validate(wire: PatchRequest, _: &AppState) -> Result<Self, Vec<FieldError>> {
        let mut checks = Validator::default();
        let patch = Self {
            amount_minor: wire
                .amount_minor
                .and_then(|minor| checks.check("/amountMinor", money::price(minor))),
            stripe_price_id: wire.stripe_price_id.map(|text| {
                text.and_then(|text| checks.check("/stripePriceId", money::stripe_price_id(&text)))
            }),
        };
        checks.finish(Some(patch))
    }
}

/// Changes a price
///
/// Subscriptions that there are keep theirs.
#[utoipa::path(
    patch, path = "/prices/{id}", operation_id = "updatePrice", tag = "prices", request_body = PatchRequest,
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = PriceView), (status = "default", response = Problem)),
)]
pub(super) async fn patch(
    Operator(caller): Operator,
    PathParam(id): PathParam<PriceId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<Patch>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let change = Change {
        id,
        patch: &submitted.body,
        if_match: &if_match,
    };
    Ok(recorder.record(&change).await?.answer)
}

/// Takes a price away, and answers what it was
///
/// Subscriptions that there are keep theirs.
#[utoipa::path(
    delete, path = "/prices/{id}", operation_id = "deletePrice", tag = "prices",
    params(("id" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("If-Match" = Option<String>, Header)),
    responses((status = 200, body = PriceView), (status = "default", response = Problem)),
)]
pub(super) async fn delete(
    Operator(caller): Operator,
    PathParam(id): PathParam<PriceId>,
    _: QueryParams<()>,
    State(app): State<SharedState>,
    request: RequestInfo,
    if_match: IfMatch,
    submitted: ValidatedJson<EmptyBody>,
) -> Result<ApiResponse, ApiError> {
    let recorder = CommandRunner::new(&app, &caller, &request, submitted.key.as_ref());
    let delete = Delete {
        id,
        if_match: &if_match,
    };
    Ok(recorder.record(&delete).await?.answer)
}

struct Change<'a> {
    id: PriceId,
    patch: &'a Patch,
    if_match: &'a IfMatch,
}

impl Command for Change<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let prices = &recorder.app.prices;
            let locked = prices.find_for_update(session, self.id).await?;
            let mut changed = locked.ok_or_else(|| reject(ProblemCode::NotFound))?;
            changed.revision -= 1;
            let known = changed.clone();
            self.if_match
                .check(ETag::of_revision(known.revision))
                .map_err(reject)?;
            if let Some(minor) = self.patch.amount_minor {
                changed.amount_minor = minor;
            }
            if let Some(id) = &self.patch.stripe_price_id {
                changed.stripe_price_id.clone_from(id);
            }
            if changed == known {
                prices.unlock(session, self.id).await?;
                return Ok(CommandOutput::unchanged(answer(known).map_err(reject)?));
            }
            let now = recorder.app.store.now();
            changed.revision += 1;
            changed.updated_at = now;
            prices.save(session, &changed).await?;
            let event = recorder
                .event(now, Action::PriceUpdate, target(&changed)?, None)
                .with_changes(&audited(&known)?, &audited(&changed)?);
            let answer = answer(changed).map_err(reject)?;
            Ok(CommandOutput::complete(answer, event))
        }
        .boxed()
    }
}

struct Delete<'a> {
    id: PriceId,
    if_match: &'a IfMatch,
}

impl Command for Delete<'_> {
    fn record<'s>(
        &'s self,
        session: &'s mut ClientSession,
        recorder: &'s CommandRunner<'_>,
    ) -> BoxFuture<'s, Result<CommandOutput, TransactionError<CommandError>>> {
        async move {
            let prices = &recorder.app.prices;
            let locked = prices.find_for_update(session, self.id).await?;
            let mut price = locked.ok_or_else(|| reject(ProblemCode::NotFound))?;
            price.revision -= 1;
            self.if_match
                .check(ETag::of_revision(price.revision))
                .map_err(reject)?;
            prices.delete(session, self.id).await?;
            let now = recorder.app.store.now();
            let event = recorder
                .event(now, Action::PriceDelete, target(&price)?, None)
                .with_changes(&audited(&price)?, &Document::new());
            let mut answer = answer(price).map_err(reject)?;
            answer.etag = None;
            Ok(CommandOutput::complete(answer, event))
        }
        .boxed()
    }
}
