//! Calls to Stripe with an idempotency key that is stored before the call.
//!
//! The order is: look for the effect, store the key, call, store the result. A worker that dies in between leaves an open
//! call, which the next attempt repeats with its key.

use std::fmt::Display;

use dezky_shared::stripe_call::{NextCall, StripeCall, StripeCallState, request_hash};
use dezky_upstreams::clients::stripe::KeyedError;
use futures::FutureExt as _;

use crate::steps::{StepContext, StepFailure};

/// Operation that creates a subscription.
pub(super) const CREATE_SUBSCRIPTION: &str = "subscription.create";

/// The keyed calls of a step.
#[derive(Clone, Copy)]
pub(super) struct KeyedCalls<'a>(pub(super) &'a StepContext);

impl KeyedCalls<'_> {
    /// Next action for the call of `operation` on `entity`.
    pub(super) async fn next(
        self,
        operation: &str,
        entity: impl Display,
        parameters: &[&str],
    ) -> Result<NextCall, StepFailure> {
        let ctx = &self.0.ctx;
        let id = StripeCall::id_of(operation, entity);
        let before = ctx.stripe_calls.find(&id).await?;
        let hash = request_hash(parameters);
        Ok(StripeCall::next(before, id, hash, ctx.store.now()))
    }

    /// The call to make for a request that may be made twice: it sets what it has set before.
    pub(super) async fn begin_repeatable(
        self,
        operation: &str,
        entity: impl Display,
        parameters: &[&str],
    ) -> Result<StripeCall, StepFailure> {
        self.repeat_or_begin(operation, entity, parameters, Vec::new())
            .await
    }

    /// As [`begin_repeatable`](Self::begin_repeatable), for a request that is [`unresolved`](Self::unresolved) until its
    /// effect is known. The parameters are stored as they are: none is personal data.
    pub(super) async fn begin_recorded(
        self,
        operation: &str,
        entity: impl Display,
        parameters: &[&str],
    ) -> Result<StripeCall, StepFailure> {
        let request = parameters.iter().map(|it| (*it).to_owned()).collect();
        self.repeat_or_begin(operation, entity, parameters, request)
            .await
    }

    async fn repeat_or_begin(
        self,
        operation: &str,
        entity: impl Display,
        parameters: &[&str],
        request: Vec<String>,
    ) -> Result<StripeCall, StepFailure> {
        match self.next(operation, entity, parameters).await? {
            NextCall::Repeat(call) => Ok(call),
            NextCall::Begin { next, .. } => {
                let next = StripeCall { request, ..next };
                self.begin(&next).await?;
                Ok(next)
            }
        }
    }

    /// Recorded parameters of the last request, while its effect is not known. It may still happen, beside that of another
    /// request, so this one is repeated first.
    pub(super) async fn unresolved(
        self,
        operation: &str,
        entity: impl Display,
    ) -> Result<Option<Vec<String>>, StepFailure> {
        let ctx = &self.0.ctx;
        let id = StripeCall::id_of(operation, entity);
        let last = ctx.stripe_calls.find(&id).await?;
        let now = ctx.store.now();
        Ok(last.and_then(|call| call.unresolved(now).map(<[String]>::to_vec)))
    }

    /// Whether the effect of the last call is not known, and may still happen.
    pub(super) async fn is_in_doubt(
        self,
        operation: &str,
        entity: impl Display,
    ) -> Result<bool, StepFailure> {
        let ctx = &self.0.ctx;
        let id = StripeCall::id_of(operation, entity);
        let last = ctx.stripe_calls.find(&id).await?;
        let now = ctx.store.now();
        Ok(last.is_some_and(|call| call.is_in_doubt(now)))
    }

    /// Stores the key of a call that is about to be made.
    pub(super) async fn begin(self, call: &StripeCall) -> Result<(), StepFailure> {
        let beginning = (&self.0.ctx.stripe_calls, call);
        let begun = self
            .0
            .fenced_transaction(beginning, |session, (calls, call)| {
                calls.begin(session, call).boxed()
            });
        begun.await
    }

    /// Stores the result of a call, if it is known.
    pub(super) async fn settle<T>(
        self,
        call: &StripeCall,
        sent: &Result<T, KeyedError>,
        id_of: impl Fn(&T) -> Option<&str>,
    ) -> Result<(), StepFailure> {
        let Some(state) = ended_by(sent) else {
            return Ok(());
        };
        let result = sent.as_ref().ok().and_then(id_of);
        let ending = (&self.0.ctx.stripe_calls, call, state, result);
        let ended = self
            .0
            .fenced_transaction(ending, |session, (calls, call, state, result)| {
                calls.end(session, call, *state, *result).boxed()
            });
        ended.await
    }

    /// Ends an open call whose effect was seen.
    pub(super) async fn confirm(
        self,
        operation: &str,
        entity: impl Display,
    ) -> Result<(), StepFailure> {
        let calls = &self.0.ctx.stripe_calls;
        let known = calls.find(&StripeCall::id_of(operation, entity)).await?;
        let Some(open) = known.filter(|call| call.state == StripeCallState::Open) else {
            return Ok(());
        };
        let ending = (calls, &open);
        let ended = self.0.fenced_transaction(ending, |session, (calls, call)| {
            calls
                .end(session, call, StripeCallState::Done, None)
                .boxed()
        });
        ended.await
    }
}

/// The state in which an answer ends its call; `None` while the effect is not known.
pub(super) fn ended_by<T>(sent: &Result<T, KeyedError>) -> Option<StripeCallState> {
    match sent {
        Ok(_) => Some(StripeCallState::Done),
        Err(failed) if failed.is_key_spent => Some(StripeCallState::Refused),
        Err(_) => None,
    }
}
