//! Choice of the card that a customer's invoices are charged to: the one of a completed setup intent of that customer.

use dezky_shared::queue::{args::SetDefaultCard, error_code::ErrorCode};

use super::{
    card::default_card_of,
    customer::{CustomerSync, gone},
    keyed_calls::KeyedCalls,
};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that set it, stored as the reason.
const CARD_SET: &str = "CardSet";

/// Sets the card.
pub(super) async fn set(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: SetDefaultCard = run.args()?;
    let mut sync = match CustomerSync::begin(&run, args.tenant_id).await? {
        Ok(sync) => sync,
        Err(reason) => return Ok(StepSuccess::skipped(reason)),
    };
    let customer = match &sync.account.stripe_customer_id {
        Some(id) => sync.stripe.retrieve_customer(id).await?,
        None => None,
    };
    let customer = customer.ok_or_else(|| unusable("the tenant has no customer"))?;
    let id = &args.setup_intent_id;
    let intent = sync.stripe.retrieve_setup_intent(id).await?;
    let method = intent
        .as_ref()
        .and_then(|intent| intent.card_of(&customer.id));
    let method =
        method.ok_or_else(|| unusable("it is not completed, or not of the tenant's customer"))?;
    let customer = if customer.default_payment_method() == Some(method) {
        customer
    } else {
        let calls = KeyedCalls(&run);
        let parameters = [customer.id.as_str(), method];
        let call = calls.begin_repeatable("customer.set_card", args.tenant_id, &parameters);
        let call = call.await?;
        let sent = sync
            .stripe
            .set_default_payment_method(&customer.id, method, &call.key())
            .await;
        calls.settle(&call, &sent, |_| None).await?;
        sync.changes.push("card set".to_owned());
        sent?.ok_or_else(|| gone(&customer))?
    };
    sync.account.default_card = default_card_of(&sync.stripe, &customer).await?;
    sync.account.synced_at = run.ctx.store.now();
    sync.save().await?;
    Ok(StepSuccess::ok(CARD_SET, sync.changes))
}

fn unusable(why: &str) -> StepFailure {
    StepFailure::new(ErrorCode::SetupIntentUnusable, why)
}
