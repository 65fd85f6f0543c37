//! Invoices of subscriptions: a fan-out finds those that are due, and one job per subscription issues their invoices.
//!
//! The decisions are in [`dezky_shared::invoicing`]; these jobs read, write and audit it. They write no tenant. Stripe is
//! called by the sync of a customer and its subscription, by the jobs about its cards and sent invoices, and by those that
//! follow what changes there.

mod card;
mod card_catalog;
mod card_subscription;
mod catch_up;
mod customer;
mod each;
mod enter_card;
mod invoice;
mod keyed_calls;
mod mirror;
mod mirror_subscription;
mod payouts;
mod position;
mod preview;
mod read_invoice;
mod read_subscription;
mod release;
mod send_invoices;
mod sent_invoice;
mod set_card;
mod sweep;
mod tax_id;
mod unsent;

use bson::DateTime;
use dezky_shared::{
    feature_flag::{EvaluationContext, FlagSet, NEW_BILLING_ENGINE},
    id::TenantId,
    invoicing::Enrolment,
    queue::args::{InvoiceSubscription, SyncBilling},
    store::{StoreError, jobs::NewJob},
    subscription::Subscription,
    tenant::Tenant,
    upstream::Upstream,
};
use mongodb::ClientSession;

use super::tenant::ReadOnlySink;
use crate::{
    context::Context,
    steps::{StepContext, StepFailure, StepSuccess, Steps},
};

/// Result of a step that has invoiced the due periods, stored as the reason.
const INVOICED: &str = "Invoiced";
/// Result of a step that had nothing to do, since the flag is off or the subscription is gone.
const NOT_BILLED: &str = "NotBilled";

/// Enqueues a job for every subscription that the invoice run concerns.
pub(super) fn run() -> Steps {
    Steps::parallel().step("subscriptions", each::each_subscription)
}

/// Invoices one subscription.
pub(super) fn invoice() -> Steps {
    Steps::parallel().step("invoices", invoice::invoice)
}

/// Creates the payouts of a month.
pub(super) fn close_payouts() -> Steps {
    Steps::parallel().step("payouts", payouts::close)
}

/// Releases the ledger entries of a cancelled payout.
pub(super) fn release_payout() -> Steps {
    Steps::parallel().step("entries", release::release)
}

/// Enqueues a sync for every customer at Stripe.
pub(super) fn sweep() -> Steps {
    Steps::parallel().step("customers", sweep::each_customer)
}

/// Syncs a tenant's customer and subscription at Stripe.
pub(super) fn sync() -> Steps {
    at_stripe(customer::sync)
}

/// Creates a setup intent, with which a person enters a card.
pub(super) fn create_setup_intent() -> Steps {
    at_stripe(enter_card::create)
}

/// Sets the card that a customer's invoices are charged to.
pub(super) fn set_default_card() -> Steps {
    at_stripe(set_card::set)
}

/// Has Stripe issue and send an invoice.
pub(super) fn issue_invoice() -> Steps {
    at_stripe(send_invoices::issue)
}

/// Voids an invoice at Stripe.
pub(super) fn void_invoice() -> Steps {
    at_stripe(send_invoices::void)
}

/// Marks an invoice at Stripe as paid.
pub(super) fn settle_invoice() -> Steps {
    at_stripe(send_invoices::settle)
}

/// Reads an object at Stripe again.
pub(super) fn mirror() -> Steps {
    at_stripe(mirror::mirror)
}

/// Reads the list of Stripe's events.
pub(super) fn fetch_events() -> Steps {
    at_stripe(catch_up::catch_up)
}

/// The only step of a job that calls Stripe. It writes no tenant.
fn at_stripe<F, R>(run: F) -> Steps
where
    F: Fn(StepContext) -> R + Send + Sync + 'static,
    R: Future<Output = Result<StepSuccess, StepFailure>> + Send + 'static,
{
    Steps::parallel()
        .partial(Upstream::Stripe, Upstream::Stripe.name(), run)
        .reporting_to(ReadOnlySink)
}

/// The flags as stored now: a job of another process must not act on cached ones.
async fn flags_of(run: &StepContext) -> Result<FlagSet, StepFailure> {
    Ok(FlagSet::new(run.ctx.flags.all().await?))
}

/// Whether the tenant is invoiced by this run.
fn is_billed(flags: &FlagSet, tenant: &Tenant, now: DateTime) -> bool {
    flags.is_on(NEW_BILLING_ENGINE, EvaluationContext::from(tenant), now)
}

/// Enrols the subscription and skips what an operator decided to skip. Repeated, it changes nothing.
fn prepare(subscription: &mut Subscription, args: &InvoiceSubscription, now: DateTime) {
    subscription.enrol(Enrolment::Existing, now);
    if let Some(skip_to) = args.skip_to
        && subscription
            .invoiced_through
            .is_some_and(|through| through < skip_to)
    {
        subscription.advance_to(skip_to);
    }
}

/// Whether Stripe may charge a subscription of the tenant: also one that ended here while the flag was off, which ends nothing
/// there. One of a newer build may be there, too.
async fn is_charged(ctx: &Context, tenant: TenantId) -> Result<bool, StoreError> {
    let live = ctx.subscriptions.list_live(&[tenant]).await?;
    if live.values().any(Option::is_none) {
        return Ok(true);
    }
    let known = ctx.subscriptions.list_for(&[tenant]).await?;
    Ok(known.iter().any(Subscription::may_be_charged))
}

/// Enqueues the sync that ends a tenant's subscription at Stripe, in the transaction that removes the tenant. Also if its
/// flag is off by now: a customer that is gone is not charged.
pub(super) async fn enqueue_end(
    ctx: &Context,
    session: &mut ClientSession,
    tenant: &Tenant,
    now: DateTime,
) -> Result<(), StoreError> {
    if ctx.clients.stripe.is_none() {
        return Ok(());
    }
    let flags = FlagSet::new(ctx.flags.all().await?);
    if !is_billed(&flags, tenant, now) && !is_charged(ctx, tenant.id).await? {
        return Ok(());
    }
    let args = SyncBilling {
        tenant_id: tenant.id,
        dry_run: false,
    };
    let job = NewJob::new(&args, "purge", now)?;
    ctx.jobs.enqueue(session, &job).await?;
    Ok(())
}

/// An instant as people read it.
fn text_of(time: DateTime) -> String {
    time.try_to_rfc3339_string()
        .unwrap_or_else(|_| time.timestamp_millis().to_string())
}
