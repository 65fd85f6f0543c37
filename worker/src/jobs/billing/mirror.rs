//! Mirror of an object at Stripe: it is read again, and what it is now is stored, whatever its events said and in which
//! order they arrived.
//!
//! A customer is mirrored into the billing account of its tenant, with its card and its tax id. A customer that names its
//! tenant is adopted by an account without one, as after the restore of an older database. An invoice is mirrored into one
//! of ours, with what reduces it, and with the partner's share of it. A subscription is mirrored into the one that it was
//! created for.

mod customer;
mod invoice;
mod subscription;

use std::collections::BTreeSet;

use dezky_shared::{
    id::TenantId,
    queue::{args::MirrorStripeObject, job::JobArgs},
    store::jobs::NewJob,
    stripe_event::{CUSTOMER, INVOICE, PAYMENT_INTENT, SUBSCRIPTION},
    tenant::reason,
    webhook_event::EventState,
};
use dezky_upstreams::clients::stripe::{Invoice, Stripe};
use futures::FutureExt as _;

use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that stored the object, stored as the reason.
const MIRRORED: &str = "Mirrored";
/// Result of a step that found the tenant, whose job follows.
const TENANT_FOUND: &str = "TenantFound";
/// Result of a step whose object concerns no tenant.
const NOT_OURS: &str = "NotOurs";
/// Maximum number of open invoices that a sync has mirrored.
const MAX_OPEN: usize = 20;
/// Maximum number of events that a job ends. Further events wait for the catch-up.
const MAX_EVENTS: i64 = 1_000;

/// Mirrors the object.
pub(super) async fn mirror(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: MirrorStripeObject = run.args()?;
    let Some(stripe) = &run.ctx.clients.stripe else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    // Before the object is read: an event that arrives after this has a job of its own.
    let events = &run.ctx.webhook_events;
    let waiting = events.list_waiting(&args.object_id, MAX_EVENTS).await?;
    let mirror = Mirror {
        run: &run,
        stripe: stripe.with_deadline(&run.deadline),
        args: &args,
        waiting,
    };
    match (args.object_type.as_str(), args.tenant_id) {
        (CUSTOMER, Some(tenant)) => mirror.store_customer(tenant).await,
        (INVOICE | PAYMENT_INTENT, Some(tenant)) => mirror.store_invoice(tenant).await,
        (SUBSCRIPTION, Some(tenant)) => mirror.store_subscription(tenant).await,
        (CUSTOMER | INVOICE | PAYMENT_INTENT | SUBSCRIPTION, None) => mirror.find_tenant().await,
        _ => mirror.ignore().await,
    }
}

/// Enqueues a job that follows this one, such as one that reads an object again, on behalf of the one who requested this job.
pub(super) async fn enqueue(run: &StepContext, args: &impl JobArgs) -> Result<(), StepFailure> {
    let (ctx, before) = (&run.ctx, &run.job);
    let job = NewJob::new(args, &before.created_by, ctx.store.now())?
        .requested_by(before.request_id.clone(), before.traceparent.clone());
    let enqueueing = (&ctx.jobs, &job);
    let enqueued = run.fenced_transaction(enqueueing, |session, (jobs, job)| {
        jobs.enqueue(session, job).boxed()
    });
    let enqueued = enqueued.await?;
    ctx.ready.notify(&[enqueued]).await;
    Ok(())
}

/// Enqueues the mirror of the open invoices of Stripe: the events that told their payment may be lost.
pub(super) async fn enqueue_open(
    run: &StepContext,
    tenant_id: TenantId,
) -> Result<(), StepFailure> {
    let open = run.ctx.invoices.list_open(tenant_id).await?;
    let stripe = open.into_iter().filter_map(|invoice| invoice.stripe);
    for invoice in stripe.take(MAX_OPEN) {
        let args = MirrorStripeObject {
            object_type: INVOICE.to_owned(),
            object_id: invoice.id,
            tenant_id: Some(tenant_id),
        };
        enqueue(run, &args).await?;
    }
    Ok(())
}

struct Mirror<'a> {
    run: &'a StepContext,
    stripe: Stripe,
    args: &'a MirrorStripeObject,
    /// The events that wait for this.
    waiting: BTreeSet<String>,
}

impl Mirror<'_> {
    /// Finds the tenant, and enqueues a job that takes the lock of its billing.
    async fn find_tenant(&self) -> Result<StepSuccess, StepFailure> {
        let Some(tenant) = self.tenant().await? else {
            return self.ignore().await;
        };
        let args = MirrorStripeObject {
            tenant_id: Some(tenant),
            ..self.args.clone()
        };
        enqueue(self.run, &args).await?;
        Ok(StepSuccess::ok(TENANT_FOUND, Vec::new()))
    }

    /// The tenant whose customer the object is, or is of.
    async fn tenant(&self) -> Result<Option<TenantId>, StepFailure> {
        let id = &self.args.object_id;
        let customer = match self.args.object_type.as_str() {
            CUSTOMER => Some(id.clone()),
            SUBSCRIPTION => {
                let found = self.stripe.retrieve_subscription(id).await?;
                found.map(|subscription| subscription.customer)
            }
            _ => self.invoice().await?.and_then(|invoice| invoice.customer),
        };
        let Some(customer) = customer else {
            return Ok(None);
        };
        let accounts = &self.run.ctx.billing_accounts;
        match accounts.find_by_customer(&customer).await? {
            Some(account) => Ok(Some(account.tenant_id)),
            None => self.named_tenant(&customer).await,
        }
    }

    /// The tenant that the customer itself names.
    async fn named_tenant(&self, customer: &str) -> Result<Option<TenantId>, StepFailure> {
        let customer = self.stripe.retrieve_customer(customer).await?;
        let named = customer.as_ref().and_then(|customer| {
            let id = customer.metadata.get("tenantId")?;
            id.parse::<TenantId>().ok()
        });
        let Some(id) = named else {
            return Ok(None);
        };
        let tenant = self.run.ctx.tenants.find(id).await?;
        Ok(tenant.map(|tenant| tenant.id))
    }

    /// The invoice that the object is, or pays.
    async fn invoice(&self) -> Result<Option<Invoice>, StepFailure> {
        let id = &self.args.object_id;
        if self.args.object_type == INVOICE {
            return Ok(self.stripe.retrieve_invoice(id).await?);
        }
        let paid = self.stripe.list_paid_invoices(id).await?;
        match paid.first() {
            Some(payment) => Ok(self.stripe.retrieve_invoice(&payment.invoice).await?),
            None => Ok(None),
        }
    }

    /// Ends the events that wait: the object is stored.
    async fn settle(&self, tenant_id: TenantId) -> Result<(), StepFailure> {
        let settling = (&self.run.ctx.webhook_events, &self.waiting, tenant_id);
        let settled =
            self.run
                .fenced_transaction(settling, |session, (events, waiting, tenant)| {
                    events
                        .settle(session, waiting, EventState::Processed, Some(*tenant))
                        .boxed()
                });
        settled.await
    }

    /// Ends the events that wait: nothing depends on their object.
    async fn ignore(&self) -> Result<StepSuccess, StepFailure> {
        let settling = (&self.run.ctx.webhook_events, &self.waiting);
        let settled = self
            .run
            .fenced_transaction(settling, |session, (events, waiting)| {
                events
                    .settle(session, waiting, EventState::Ignored, None)
                    .boxed()
            });
        settled.await?;
        Ok(StepSuccess::skipped(NOT_OURS))
    }
}
