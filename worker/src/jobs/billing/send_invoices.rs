//! Jobs about an invoice that Stripe sends for us.

use dezky_shared::{
    id::{InvoiceId, TenantId},
    invoice::{Invoice, InvoiceStatus},
    queue::{
        args::{IssueInvoice, SettleInvoice, VoidInvoice},
        error_code::{ErrorCode, RetryPolicy},
    },
    store::VersionedRepository as _,
    tenant::reason,
};
use dezky_upstreams::clients::stripe::Stripe;
use futures::FutureExt as _;

use super::{customer::CustomerSync, sent_invoice::SentInvoice};
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Result of a step that did what was left to do, stored as the reason.
const DONE: &str = "Done";

/// Issues and sends the invoice, to a customer with the current billing details.
pub(super) async fn issue(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: IssueInvoice = run.args()?;
    let found = find(&run, args.tenant_id, args.invoice_id).await?;
    // One that is to be voided is not issued any more. One without a stage that is still a draft here was sent by an attempt
    // that died before it mirrored the invoice.
    let is_sent_draft =
        |invoice: &Invoice| invoice.status == InvoiceStatus::Draft && invoice.stripe.is_some();
    let is_waiting = |invoice: &Invoice| {
        (invoice.stage.is_some() || is_sent_draft(invoice)) && invoice.void_reason.is_none()
    };
    let Some(invoice) = found.filter(is_waiting) else {
        return Ok(StepSuccess::ok(DONE, Vec::new()));
    };
    let mut sync = match CustomerSync::begin(&run, args.tenant_id).await? {
        Ok(sync) => sync,
        Err(reason) => return Ok(StepSuccess::skipped(reason)),
    };
    let invoice_id = invoice.id;
    let issued = issue_to(&run, &mut sync, invoice).await;
    if let Err(refused) = &issued
        && refused.code.retry_policy() == RetryPolicy::Never
    {
        note_refusal(&run, args.tenant_id, invoice_id, refused.code).await?;
    }
    issued?;
    let mut changes = std::mem::take(&mut sync.changes);
    changes.push("invoice sent".to_owned());
    Ok(StepSuccess::ok(DONE, changes))
}

/// Issues the invoice to the customer.
async fn issue_to(
    run: &StepContext,
    sync: &mut CustomerSync<'_>,
    invoice: Invoice,
) -> Result<(), StepFailure> {
    sync.apply().await?;
    let mut sent = SentInvoice {
        run,
        stripe: sync.stripe.clone(),
        customer: sync.account.stripe_customer_id.clone().unwrap_or_default(),
        invoice,
    };
    sent.issue().await
}

/// Notes on the invoice that Stripe refused it: a repeat would be refused, too, until a person changes something.
async fn note_refusal(
    run: &StepContext,
    tenant: TenantId,
    id: InvoiceId,
    code: ErrorCode,
) -> Result<(), StepFailure> {
    let noting = (&run.ctx, tenant, id, code);
    let noted = run.fenced_transaction(noting, |session, noting| {
        let (ctx, tenant, id, code) = *noting;
        async move {
            let invoices = &ctx.invoices;
            let Some(before) = invoices.find_of_in(session, tenant, id).await? else {
                return Ok(());
            };
            if before.stage.is_none() {
                return Ok(());
            }
            let (mut after, now) = (before.clone(), ctx.store.now());
            after.refuse(code, now);
            invoices
                .save_changed(session, &before, &mut after, now)
                .await?;
            Ok(())
        }
        .boxed()
    });
    noted.await
}

/// Voids the invoice.
pub(super) async fn void(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: VoidInvoice = run.args()?;
    let Some(stripe) = &run.ctx.clients.stripe else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let mut changes = Vec::new();
    let unsettled = unsettled(&run, stripe, args.tenant_id, args.invoice_id);
    if let Some(mut invoice) = unsettled.await? {
        invoice.void().await?;
        changes.push("invoice voided".to_owned());
    }
    Ok(StepSuccess::ok(DONE, changes))
}

/// Marks the invoice as paid.
pub(super) async fn settle(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: SettleInvoice = run.args()?;
    let Some(stripe) = &run.ctx.clients.stripe else {
        return Ok(StepSuccess::skipped(reason::INTEGRATION_DISABLED));
    };
    let mut changes = Vec::new();
    let unsettled = unsettled(&run, stripe, args.tenant_id, args.invoice_id);
    if let Some(mut invoice) = unsettled.await? {
        invoice.settle().await?;
        changes.push("invoice marked as paid".to_owned());
    }
    Ok(StepSuccess::ok(DONE, changes))
}

/// The invoice, unless it is paid or void. It may be of a tenant that is gone, or is not billed any more: what such a
/// tenant owes is still paid or voided.
async fn unsettled<'a>(
    run: &'a StepContext,
    stripe: &Stripe,
    tenant: TenantId,
    id: InvoiceId,
) -> Result<Option<SentInvoice<'a>>, StepFailure> {
    let found = find(run, tenant, id).await?;
    let Some(invoice) = found.filter(|invoice| !invoice.status.is_final()) else {
        return Ok(None);
    };
    let account = run.ctx.billing_accounts.find(tenant).await?;
    let customer = account.and_then(|account| account.stripe_customer_id);
    Ok(Some(SentInvoice {
        run,
        stripe: stripe.with_deadline(&run.deadline),
        customer: customer.unwrap_or_default(),
        invoice,
    }))
}

async fn find(
    run: &StepContext,
    tenant: TenantId,
    id: InvoiceId,
) -> Result<Option<Invoice>, StepFailure> {
    let found = run.ctx.invoices.find_of(tenant, id).await?;
    Ok(found.filter(|invoice| invoice.sent_by_stripe))
}
