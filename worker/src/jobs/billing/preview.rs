//! Dry run of a subscription's invoices: the same decisions on a copy, without a write.

use dezky_shared::{feature_flag::FlagSet, invoicing::Next, queue::args::InvoiceSubscription};

use super::{INVOICED, NOT_BILLED, is_billed, prepare, text_of};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Lists the actions that the job would take, also as of a time in the future.
pub(super) async fn preview(
    run: &StepContext,
    args: &InvoiceSubscription,
    flags: &FlagSet,
) -> Result<StepSuccess, StepFailure> {
    let (ctx, now) = (&run.ctx, run.ctx.store.now());
    let skipped = || Ok(StepSuccess::skipped(NOT_BILLED));
    let Some(mut subscription) = ctx.subscriptions.find(args.subscription_id).await? else {
        return skipped();
    };
    let Some(tenant) = ctx.tenants.find(subscription.tenant_id).await? else {
        return skipped();
    };
    if !subscription.status.is_live() || !is_billed(flags, &tenant, now) {
        return skipped();
    }
    let mut changes = Vec::new();
    let before = subscription.invoiced_through;
    prepare(&mut subscription, args, now);
    if let Some(through) = subscription.invoiced_through.filter(|_| before.is_none()) {
        changes.push(format!("would enrol, invoiced until {}", text_of(through)));
    }
    let released = args.periods.and_then(|it| usize::try_from(it).ok());
    loop {
        match subscription.next(tenant.status, released, args.as_of) {
            Next::Nothing => break,
            Next::Invoice(period) => {
                let (start, end) = (text_of(period.start), text_of(period.end));
                let (price, currency) = (subscription.price_minor, &subscription.currency);
                changes.push(format!(
                    "would invoice {price} {currency} (minor units) for {start} to {end}"
                ));
                subscription.advance_to(period.end);
            }
            Next::End { at, .. } => {
                changes.push(format!("would end the subscription at {}", text_of(at)));
                break;
            }
            Next::Hold { periods } => {
                changes.push(format!(
                    "would wait for an operator: {periods} periods are due"
                ));
                break;
            }
        }
    }
    Ok(StepSuccess::ok(INVOICED, changes))
}
