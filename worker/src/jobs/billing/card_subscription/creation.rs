//! Creation of a subscription at Stripe, once: a request whose answer was lost is repeated as it was made, also if ours has
//! other terms by now.

use dezky_shared::{
    invoice::BeforeFirstCard,
    queue::error_code::ErrorCode,
    subscription::{Biller, Subscription},
};
use dezky_upstreams::clients::{
    ClientError,
    stripe::{KeyedError, NewSubscription},
};

use super::{
    super::{
        card_catalog::{CardCatalog, changed},
        keyed_calls::{CREATE_SUBSCRIPTION, KeyedCalls, ended_by},
        text_of,
    },
    CardSync,
};
use crate::steps::StepFailure;

impl CardSync<'_> {
    /// Creates the subscription. Until it exists, or is refused, no other biller bills ours.
    pub(super) async fn create(
        &mut self,
        ours: &Subscription,
        anchor: Option<bson::DateTime>,
    ) -> Result<String, StepFailure> {
        let unresolved = self.unresolved(ours).await?;
        let is_repeat = unresolved.is_some();
        let new = match unresolved {
            Some(unresolved) => unresolved,
            None => self.request(ours, anchor).await?,
        };
        if !self.mirror().begin(ours).await? {
            return Err(changed("the subscription or its tenant changed meanwhile"));
        }
        let text = |at: Option<i64>| at.map(|at| at.to_string()).unwrap_or_default();
        let (anchor, backdated_to) = (text(new.anchor), text(new.backdated_to));
        let mut parameters = vec![new.customer.as_str(), &new.price, &anchor];
        if new.backdated_to.is_some() {
            parameters.push(&backdated_to);
        }
        let calls = KeyedCalls(self.run);
        // The list of the customer's subscriptions, which was read before, shows what an older call has created.
        let call = calls.begin_recorded(CREATE_SUBSCRIPTION, ours.id, &parameters);
        let call = call.await?;
        let sent = self.stripe.create_subscription(&new, &call.key()).await;
        let is_refused = sent.as_ref().map_or_else(is_refusal, Option::is_none);
        if let Some(state) = ended_by(&sent).filter(|_| is_refused) {
            self.mirror().take_back(ours.id, &call, state).await?;
        } else {
            calls
                .settle(&call, &sent, |created| Some(created.as_ref()?.id.as_str()))
                .await?;
        }
        if is_refused && is_repeat {
            return Err(changed("the earlier request was refused"));
        }
        let created = sent?.ok_or_else(|| changed("the customer or its card is gone"))?;
        if let Some(through) = ours
            .invoiced_through
            .filter(|_| new.anchor.or(new.backdated_to).is_none())
            && ours.biller == Biller::Run
        {
            let from = text_of(through);
            self.changes.push(format!("not billed from {from} to now"));
        }
        self.changes
            .push(format!("subscription {} created", created.id));
        Ok(created.id)
    }

    /// The request that creates the subscription as ours is now.
    async fn request(
        &self,
        ours: &Subscription,
        anchor: Option<bson::DateTime>,
    ) -> Result<NewSubscription, StepFailure> {
        let catalog = CardCatalog {
            run: self.run,
            stripe: &self.stripe,
        };
        let invoicing = &self.run.ctx.invoicing;
        let backdated_to = match invoicing.before_first_card {
            BeforeFirstCard::Backdate if anchor.is_none() => {
                ours.backdated_to(self.run.ctx.store.now())
            }
            BeforeFirstCard::Backdate | BeforeFirstCard::Free => None,
        };
        let seconds = |at: bson::DateTime| at.timestamp_millis().div_euclid(1_000);
        Ok(NewSubscription {
            customer: self.account.stripe_customer_id.clone().unwrap_or_default(),
            price: catalog.price_of(ours).await?,
            anchor: anchor.map(seconds),
            backdated_to: backdated_to.map(seconds),
            tenant_id: self.tenant.id.to_string(),
            subscription_id: ours.id.to_string(),
        })
    }

    /// The earlier request whose answer was lost. It may still arrive: with another one, under another key, Stripe would
    /// create and charge two.
    async fn unresolved(
        &self,
        ours: &Subscription,
    ) -> Result<Option<NewSubscription>, StepFailure> {
        let request = KeyedCalls(self.run)
            .unresolved(CREATE_SUBSCRIPTION, ours.id)
            .await?;
        let Some([customer, price, anchor, others @ ..]) = request.as_deref() else {
            return Ok(None);
        };
        Ok(Some(NewSubscription {
            customer: customer.clone(),
            price: price.clone(),
            anchor: anchor.parse().ok(),
            backdated_to: others.first().and_then(|start| start.parse().ok()),
            tenant_id: self.tenant.id.to_string(),
            subscription_id: ours.id.to_string(),
        }))
    }
}

/// Whether Stripe has refused the request. A stored internal error is none: Stripe does not say whether it was carried out.
/// Nor is it one if Stripe knows the key from another request, as of another build, which was carried out.
fn is_refusal(failed: &KeyedError) -> bool {
    let may_exist = matches!(
        failed.error,
        ClientError::Unavailable(_)
            | ClientError::UserAction {
                code: ErrorCode::IdempotencyMisused,
                ..
            }
    );
    failed.is_key_spent && !may_exist
}

#[cfg(test)]
mod tests {
    use dezky_shared::upstream::Upstream;
    use dezky_upstreams::clients::FailedCall;

    use super::*;

    fn refused(code: ErrorCode) -> KeyedError {
        let call = FailedCall {
            upstream: Upstream::Stripe,
            operation: "create_subscription",
            status: None,
            request_id: None,
            detail: String::new(),
        };
        KeyedError {
            error: ClientError::UserAction { call, code },
            is_key_spent: true,
            code: None,
        }
    }

    #[test]
    fn a_key_that_another_request_has_used_is_no_refusal_of_this_one() {
        assert!(is_refusal(&refused(ErrorCode::PaymentRefused)));
        assert!(!is_refusal(&refused(ErrorCode::IdempotencyMisused)));
    }
}
