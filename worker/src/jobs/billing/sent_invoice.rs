//! Invoice that Stripe issues and sends for us: issued stage by stage, then voided or marked as paid.
//!
//! Each stage looks at Stripe first, stores the key of its call, calls, and stores the next stage. An attempt that dies
//! is continued at the stage at which it ended.

use bson::Document;
use dezky_shared::{
    audit::{Action, Target},
    id::{InvoiceId, TenantId},
    invoice::{Invoice, InvoiceLine, InvoiceStage, MAX_LINES, StripeInvoice},
    money,
    queue::{args::MirrorStripeObject, error_code::ErrorCode},
    store::{StoreError, VersionedRepository as _},
    stripe_call::{NextCall, StripeCall, StripeCallState},
    stripe_event::INVOICE,
};
use dezky_upstreams::clients::stripe::{self, KeyedError, NewInvoice, NewInvoiceItem, Stripe};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{keyed_calls::KeyedCalls, mirror};
use crate::{
    jobs::audit_event,
    steps::{StepContext, StepFailure},
};

/// Length of a day in seconds.
const DAY: u64 = 24 * 60 * 60;
/// Status of an invoice at Stripe that is not issued.
const DRAFT: &str = "draft";

/// An invoice with its customer at Stripe.
pub(super) struct SentInvoice<'a> {
    pub(super) run: &'a StepContext,
    pub(super) stripe: Stripe,
    /// Id of the customer; empty if there is none.
    pub(super) customer: String,
    pub(super) invoice: Invoice,
}

impl SentInvoice<'_> {
    /// Issues and sends the invoice, from its stage on.
    pub(super) async fn issue(&mut self) -> Result<(), StepFailure> {
        while let Some(stage) = self.invoice.stage {
            let next = match stage {
                InvoiceStage::Claimed => self.create().await?,
                InvoiceStage::Created => self.add_lines().await?,
                InvoiceStage::Itemised => self.finalize().await?,
                InvoiceStage::Finalized => self.send().await?,
            };
            self.advance(next).await?;
        }
        self.mirror().await
    }

    /// Voids the invoice at Stripe; a draft is deleted there, and voided here.
    pub(super) async fn void(&mut self) -> Result<(), StepFailure> {
        let Some(found) = self.find().await? else {
            return self.void_here().await;
        };
        if is_draft(&found) {
            self.stripe.delete_invoice(&found.id).await?;
            return self.void_here().await;
        }
        self.adopt(&found.id);
        self.advance(self.invoice.stage).await?;
        if is_unpaid(&found) {
            let calls = KeyedCalls(self.run);
            let call = calls
                .begin_repeatable("invoice.void", self.invoice.id, &[&found.id])
                .await?;
            let sent = self.stripe.void_invoice(&found.id, &call.key()).await;
            calls.settle(&call, &sent, |_| None).await?;
            sent?.ok_or_else(lost)?;
        }
        self.mirror().await
    }

    /// Marks the invoice as paid at Stripe.
    pub(super) async fn settle(&mut self) -> Result<(), StepFailure> {
        let found = self.find().await?.ok_or_else(lost)?;
        if is_unpaid(&found) {
            let calls = KeyedCalls(self.run);
            let call = calls
                .begin_repeatable("invoice.pay", self.invoice.id, &[&found.id])
                .await?;
            let sent = self.stripe.settle_invoice(&found.id, &call.key()).await;
            calls.settle(&call, &sent, |_| None).await?;
            sent?.ok_or_else(lost)?;
        }
        self.mirror().await
    }

    /// The invoice at Stripe, also one that a lost call created, or one of the same period that the database has forgotten.
    async fn find(&self) -> Result<Option<stripe::Invoice>, StepFailure> {
        if let Some(known) = &self.invoice.stripe {
            return Ok(self.stripe.retrieve_invoice(&known.id).await?);
        }
        // An empty filter is refused.
        if self.customer.is_empty() {
            return Ok(None);
        }
        let (id, key) = (
            self.invoice.id.to_string(),
            self.invoice.period_key.as_ref(),
        );
        let is_ours = |invoice: &stripe::Invoice| {
            let named = |name: &str| invoice.metadata.get(name);
            let is_named = named("invoiceId") == Some(&id);
            let is_live = invoice.status.as_deref() != Some("void");
            is_live && (is_named || key.is_some() && named("periodKey") == key)
        };
        let listed = self.stripe.list_invoices(&self.customer).await?;
        Ok(listed.into_iter().find(is_ours))
    }

    /// Creates the draft, unless there is one. Returns the next stage: none if it is issued already.
    async fn create(&mut self) -> Result<Option<InvoiceStage>, StepFailure> {
        let new = self.new_invoice();
        let days = new.days_until_due.to_string();
        let parameters = [new.customer.as_str(), &new.currency, &new.period_key, &days];
        let calls = KeyedCalls(self.run);
        let next = calls.next("invoice.create", self.invoice.id, &parameters);
        let call = match next.await? {
            NextCall::Repeat(call) => call,
            NextCall::Begin { next, .. } => {
                if let Some(found) = self.find().await? {
                    self.adopt(&found.id);
                    return Ok(is_draft(&found).then_some(InvoiceStage::Created));
                }
                calls.begin(&next).await?;
                next
            }
        };
        let sent = self.stripe.create_invoice(&new, &call.key()).await;
        let id_of = |created: &Option<stripe::Invoice>| Some(created.as_ref()?.id.clone());
        let created = sent.as_ref().ok().and_then(id_of);
        calls
            .settle(&call, &sent, |created| Some(created.as_ref()?.id.as_str()))
            .await?;
        sent?;
        self.adopt(&created.ok_or_else(lost)?);
        Ok(Some(InvoiceStage::Created))
    }

    fn new_invoice(&self) -> NewInvoice {
        let invoice = &self.invoice;
        let time_to_pay = self.run.ctx.invoicing.time_to_pay;
        NewInvoice {
            customer: self.customer.clone(),
            currency: invoice.currency.to_ascii_lowercase(),
            days_until_due: time_to_pay.as_secs() / DAY,
            tenant_id: invoice.tenant_id.to_string(),
            invoice_id: invoice.id.to_string(),
            period_key: invoice.period_key.clone().unwrap_or_default(),
        }
    }

    /// Adds the lines that the draft does not have.
    async fn add_lines(&self) -> Result<Option<InvoiceStage>, StepFailure> {
        let id = self.invoice.stripe_id();
        let known = self.stripe.list_invoice_lines(id, MAX_LINES).await?.len();
        let calls = KeyedCalls(self.run);
        for (number, line) in self.invoice.lines.iter().enumerate().skip(known) {
            let new = self.new_item(line)?;
            let entity = format!("{}/{number}", self.invoice.id);
            let amount = new.amount.to_string();
            let parameters = [id, &amount, &new.description];
            let call = calls.begin_repeatable("invoice_item.create", entity, &parameters);
            let call = call.await?;
            let sent = self.stripe.create_invoice_item(&new, &call.key()).await;
            calls.settle(&call, &sent, |_| None).await?;
            if !sent? {
                return Err(lost());
            }
        }
        Ok(Some(InvoiceStage::Itemised))
    }

    fn new_item(&self, line: &InvoiceLine) -> Result<NewInvoiceItem, StepFailure> {
        let currency = &self.invoice.currency;
        let amount = money::to_stripe(line.amount_minor, currency).ok_or_else(|| {
            let detail = format!("Stripe cannot charge this amount of {currency}");
            StepFailure::new(ErrorCode::UpstreamRejected, detail)
        })?;
        let seconds = |time: bson::DateTime| time.timestamp_millis().div_euclid(1_000);
        let period = line.period;
        Ok(NewInvoiceItem {
            customer: self.customer.clone(),
            invoice: self.invoice.stripe_id().to_owned(),
            amount,
            currency: currency.to_ascii_lowercase(),
            description: line.description.clone(),
            period: period.map(|period| (seconds(period.start), seconds(period.end))),
        })
    }

    async fn finalize(&self) -> Result<Option<InvoiceStage>, StepFailure> {
        let id = self.invoice.stripe_id();
        let found = self.stripe.retrieve_invoice(id).await?.ok_or_else(lost)?;
        if is_draft(&found) {
            let calls = KeyedCalls(self.run);
            let call = calls
                .begin_repeatable("invoice.finalize", self.invoice.id, &[id])
                .await?;
            let sent = self.stripe.finalize_invoice(id, &call.key()).await;
            calls.settle(&call, &sent, |_| None).await?;
            sent?.ok_or_else(lost)?;
        }
        Ok(Some(InvoiceStage::Finalized))
    }

    async fn send(&self) -> Result<Option<InvoiceStage>, StepFailure> {
        let id = self.invoice.stripe_id();
        let found = self.stripe.retrieve_invoice(id).await?.ok_or_else(lost)?;
        if is_unpaid(&found) {
            let calls = KeyedCalls(self.run);
            let next = calls.next("invoice.send", self.invoice.id, &[id]).await?;
            let call = match next {
                NextCall::Repeat(call) => call,
                // The attempt before died once it was sent. Another call would send another e-mail.
                NextCall::Begin {
                    next,
                    before: Some(before),
                } if is_done(&before, &next) => return Ok(None),
                NextCall::Begin { next, .. } => {
                    calls.begin(&next).await?;
                    next
                }
            };
            let sent: Result<_, KeyedError> = self.stripe.send_invoice(id, &call.key()).await;
            calls.settle(&call, &sent, |_| None).await?;
            sent?.ok_or_else(lost)?;
        }
        Ok(None)
    }

    /// Notes the id at Stripe.
    fn adopt(&mut self, id: &str) {
        let amount = self.invoice.subtotal_minor;
        self.invoice.stripe.get_or_insert_with(|| StripeInvoice {
            id: id.to_owned(),
            total_minor: amount,
            amount_remaining_minor: amount,
            hosted_url: None,
            pdf_url: None,
            reductions: Vec::new(),
        });
    }

    /// Stores the stage and the id at Stripe.
    async fn advance(&mut self, stage: Option<InvoiceStage>) -> Result<(), StepFailure> {
        let advancing = (&self.run.ctx, &self.invoice, stage);
        let advanced = self
            .run
            .fenced_transaction(advancing, |session, advancing| {
                let (ctx, invoice, stage) = *advancing;
                async move {
                    let invoices = &ctx.invoices;
                    let found = invoices.find_of_in(session, invoice.tenant_id, invoice.id);
                    let Some(before) = found.await? else {
                        return Ok(None);
                    };
                    let mut after = before.clone();
                    after.stage = stage.filter(|_| !after.status.is_final());
                    after.error = None;
                    if after.stripe.is_none() {
                        after.stripe.clone_from(&invoice.stripe);
                    }
                    let now = ctx.store.now();
                    invoices
                        .save_changed(session, &before, &mut after, now)
                        .await?;
                    Ok(Some(after))
                }
                .boxed()
            });
        if let Some(invoice) = advanced.await? {
            self.invoice = invoice;
        }
        Ok(())
    }

    /// Enqueues the job that reads the invoice again. Its events would do the same, later.
    async fn mirror(&self) -> Result<(), StepFailure> {
        let args = MirrorStripeObject {
            object_type: INVOICE.to_owned(),
            object_id: self.invoice.stripe_id().to_owned(),
            tenant_id: Some(self.invoice.tenant_id),
        };
        mirror::enqueue(self.run, &args).await
    }

    /// Voids an invoice that Stripe does not have.
    async fn void_here(&self) -> Result<(), StepFailure> {
        let (tenant, id) = (self.invoice.tenant_id, self.invoice.id);
        let voiding = (self.run, tenant, id);
        let voided = self.run.fenced_transaction(voiding, |session, voiding| {
            let (run, tenant, id) = *voiding;
            void(session, run, tenant, id).boxed()
        });
        voided.await
    }
}

/// One attempt of the transaction that voids an invoice here.
async fn void(
    session: &mut ClientSession,
    run: &StepContext,
    tenant: TenantId,
    id: InvoiceId,
) -> Result<(), StoreError> {
    let (ctx, now) = (&run.ctx, run.ctx.store.now());
    let found = ctx.invoices.find_of_in(session, tenant, id).await?;
    let Some(before) = found.filter(|invoice| !invoice.status.is_final()) else {
        return Ok(());
    };
    let mut after = before.clone();
    let reason = before.void_reason.clone().unwrap_or_default();
    after.void(now, &reason);
    ctx.invoices
        .save_changed(session, &before, &mut after, now)
        .await?;
    let totals = &ctx.billing_totals;
    totals
        .record_invoice(session, Some(&before), &after, now)
        .await?;
    let target = Target::new("invoice", id, String::new());
    let event = audit_event::event(Action::InvoiceVoid, target, Some(tenant), run.job.id, now);
    let fields: [Document; 2] = [audit_event::fields(&before)?, audit_event::fields(&after)?];
    let event = event.with_changes(&fields[0], &fields[1]);
    ctx.audit.record(session, &event).await
}

fn is_draft(invoice: &stripe::Invoice) -> bool {
    invoice.status.as_deref() == Some(DRAFT)
}

/// Whether the call before did what the next one would do.
fn is_done(before: &StripeCall, next: &StripeCall) -> bool {
    before.state == StripeCallState::Done && before.request_hash == next.request_hash
}

fn is_unpaid(invoice: &stripe::Invoice) -> bool {
    let status = invoice.status.as_deref().unwrap_or_default();
    ["open", "uncollectible"].contains(&status)
}

/// Stripe does not have the invoice: a person deleted its draft there.
fn lost() -> StepFailure {
    let detail = "the invoice is missing at Stripe; void it, and issue another one";
    StepFailure::new(ErrorCode::UpstreamConflict, detail)
}
