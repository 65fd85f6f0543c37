//! Choice of the card that a customer's invoices are charged to: the one of a completed setup intent of that customer.

use dezky_shared::{
    id::TenantId,
    queue::{
        args::{SetDefaultCard, SyncBilling},
        error_code::ErrorCode,
    },
    store::{VersionedRepository as _, jobs::NewJob},
};
use futures::FutureExt as _;

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
    allow_subscription(&run, args.tenant_id).await?;
    Ok(StepSuccess::ok(CARD_SET, sync.changes))
}

/// Lets the sync that follows create the subscription that is charged to the card. A person has asked for it by the card.
async fn allow_subscription(run: &StepContext, tenant_id: TenantId) -> Result<(), StepFailure> {
    let (ctx, before) = (&run.ctx, &run.job);
    let args = SyncBilling {
        tenant_id,
        dry_run: false,
    };
    let job = NewJob::new(&args, &before.created_by, ctx.store.now())?
        .requested_by(before.request_id.clone(), before.traceparent.clone());
    let allowing = (&**ctx, tenant_id, &job);
    let allowed = run.fenced_transaction(allowing, |session, allowing| {
        let (ctx, tenant, job) = *allowing;
        async move {
            let subscriptions = &ctx.subscriptions;
            if let Some(before) = subscriptions.find_live(session, tenant).await? {
                let mut after = before.clone();
                after.may_recreate = after.is_by_card();
                let now = ctx.store.now();
                subscriptions
                    .save_changed(session, &before, &mut after, now)
                    .await?;
            }
            ctx.jobs.enqueue(session, job).await
        }
        .boxed()
    });
    let enqueued = allowed.await?;
    ctx.ready.notify(&[enqueued]).await;
    Ok(())
}

fn unusable(why: &str) -> StepFailure {
    StepFailure::new(ErrorCode::SetupIntentUnusable, why)
}
