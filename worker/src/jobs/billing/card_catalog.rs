//! Prices of card subscriptions at Stripe: equal terms have one price, which is found by its lookup key or created, with the
//! product of its plan.

use dezky_shared::{
    card_billing::CardTerms, money, queue::error_code::ErrorCode, stripe_call::NextCall,
    subscription::Subscription,
};
use dezky_upstreams::clients::stripe::{NewPrice, Stripe};

use super::keyed_calls::KeyedCalls;
use crate::steps::{StepContext, StepFailure};

/// Finds and creates prices.
#[derive(Clone, Copy)]
pub(super) struct CardCatalog<'a> {
    pub(super) run: &'a StepContext,
    pub(super) stripe: &'a Stripe,
}

impl CardCatalog<'_> {
    /// Id of the price of a subscription's terms. Another tenant's job may create it at the same time: with the same key, so
    /// that there is one.
    pub(super) async fn price_of(self, subscription: &Subscription) -> Result<String, StepFailure> {
        let terms = subscription.card_terms();
        let lookup_key = terms.lookup_key();
        if let Some(found) = self.stripe.find_price(&lookup_key).await? {
            return Ok(found.id);
        }
        self.ensure_product(&terms.product, subscription.plan.title())
            .await?;
        let new = new_price(&terms, &lookup_key)?;
        let calls = KeyedCalls(self.run);
        let call = calls
            .begin_repeatable("price.create", &lookup_key, &[&lookup_key])
            .await?;
        let sent = self.stripe.create_price(&new, &call.key()).await;
        calls
            .settle(&call, &sent, |created| Some(created.as_ref()?.id.as_str()))
            .await?;
        let created = sent?.ok_or_else(|| changed("the product of a price was deleted"))?;
        Ok(created.id)
    }

    async fn ensure_product(self, id: &str, name: &str) -> Result<(), StepFailure> {
        let calls = KeyedCalls(self.run);
        let call = match calls.next("product.create", id, &[name]).await? {
            NextCall::Repeat(call) => call,
            NextCall::Begin { next, .. } => {
                if self.stripe.retrieve_product(id).await?.is_some() {
                    return Ok(());
                }
                calls.begin(&next).await?;
                next
            }
        };
        let sent = self.stripe.create_product(id, name, &call.key()).await;
        calls
            .settle(&call, &sent, |created| Some(created.as_ref()?.id.as_str()))
            .await?;
        match sent {
            Ok(_) => Ok(()),
            // Created under an older key.
            Err(failed) if failed.code.as_deref() == Some("resource_already_exists") => Ok(()),
            Err(failed) => Err(failed.into()),
        }
    }
}

fn new_price(terms: &CardTerms, lookup_key: &str) -> Result<NewPrice, StepFailure> {
    let currency = &terms.currency;
    let unit_amount = money::to_stripe(terms.price_minor, currency).ok_or_else(|| {
        let detail = format!("Stripe cannot charge this amount of {currency}");
        StepFailure::new(ErrorCode::UpstreamRejected, detail)
    })?;
    Ok(NewPrice {
        product: terms.product.clone(),
        currency: currency.to_ascii_lowercase(),
        unit_amount,
        months: terms.cycle.months(),
        lookup_key: lookup_key.to_owned(),
    })
}

/// Retry for a change at Stripe between a look and the call that depends on it: the next attempt looks again.
pub(super) fn changed(detail: &str) -> StepFailure {
    StepFailure::new(ErrorCode::UpstreamConflict, detail)
}
