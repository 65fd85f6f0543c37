//! Invoices of one subscription: each due period is claimed in a transaction of its own, oldest first.
//!
//! A claim inserts the invoice, takes its number, and moves the end of the last invoiced period. A job that dies between
//! two claims continues with the next one, and one that dies within a claim leaves nothing behind. A concurrent claim of
//! the same period conflicts, is repeated, and finds the period invoiced.

use std::time::Duration;

use bson::{DateTime, Document};
use dezky_shared::{
    audit::{Action, AuditEvent, Target},
    billing::period::Period,
    feature_flag::FlagSet,
    invoice::{Invoice, InvoiceStatus, Parties, counter_key},
    invoicing::Next,
    platform::clock,
    queue::{
        args::{InvoiceSubscription, IssueInvoice, SyncBilling},
        error_code::ErrorCode,
        job::Job,
    },
    store::{StoreError, VersionedRepository as _, jobs::NewJob, to_document},
    subscription::{Biller, Subscription, SubscriptionStatus},
    tenant::Tenant,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{INVOICED, NOT_BILLED, flags_of, is_billed, prepare, preview::preview, text_of};
use crate::jobs::audit_event;
use crate::steps::{StepContext, StepFailure, StepSuccess};

/// Age of an invoice of Stripe's own from which it is final unless it is paid: Stripe voids that of a first payment after 23
/// hours, and a sync mirrors it in the night.
const UNDECIDED_FOR: Duration = Duration::from_hours(72);

/// One transaction of the job.
#[derive(Debug)]
enum Claimed {
    /// A change was committed, and there may be more to do. With the jobs that follow it.
    Changed(String, Vec<Job>),
    /// Nothing is left to do.
    Settled(Option<String>),
    /// The tenant is not billed by the run, or the subscription is gone.
    NotBilled,
    /// The subscription may be billed by Stripe, as this job finds out.
    Adopted(Box<Job>),
    /// This many periods are due, which is too many.
    Held(usize),
}

/// Input of a transaction.
struct Work<'a> {
    run: &'a StepContext,
    args: &'a InvoiceSubscription,
    flags: &'a FlagSet,
}

/// Invoices the subscription.
pub(super) async fn invoice(run: StepContext) -> Result<StepSuccess, StepFailure> {
    let args: InvoiceSubscription = run.args()?;
    let flags = flags_of(&run).await?;
    if args.dry_run {
        return preview(&run, &args, &flags).await;
    }
    let mut changes = Vec::new();
    loop {
        let work = Work {
            run: &run,
            args: &args,
            flags: &flags,
        };
        // Claims conflict on the counter of numbers. In this process they wait for each other instead.
        let _turn = run.ctx.invoice_numbers.lock().await;
        let claimed = run.fenced_transaction(work, |session, work| work.claim(session).boxed());
        match claimed.await? {
            Claimed::Changed(change, jobs) => {
                changes.push(change);
                run.ctx.ready.notify(&jobs).await;
            }
            Claimed::Settled(change) => {
                changes.extend(change);
                return Ok(StepSuccess::ok(INVOICED, changes));
            }
            Claimed::NotBilled => return Ok(StepSuccess::skipped(NOT_BILLED)),
            Claimed::Adopted(job) => {
                run.ctx.ready.notify(&[*job]).await;
                return Ok(StepSuccess::skipped(NOT_BILLED));
            }
            Claimed::Held(periods) => {
                let detail = format!(
                    "{periods} periods are due; release or skip them with POST /tenants/{{slug}}/billing/invoice"
                );
                return Err(StepFailure::new(ErrorCode::TooManyPeriods, detail));
            }
        }
    }
}

impl Work<'_> {
    /// One attempt of a transaction: at most one period.
    async fn claim(&self, session: &mut ClientSession) -> Result<Claimed, StoreError> {
        let ctx = &self.run.ctx;
        let (id, now) = (self.args.subscription_id, ctx.store.now());
        let Some(before) = ctx.subscriptions.find_in_transaction(session, id).await? else {
            return Ok(Claimed::NotBilled);
        };
        let tenant = ctx.tenants.find_in_transaction(session, before.tenant_id);
        let Some(tenant) = tenant.await? else {
            return Ok(Claimed::NotBilled);
        };
        if !is_billed(self.flags, &tenant, now) {
            return Ok(Claimed::NotBilled);
        }
        if is_imported(&before) && ctx.clients.stripe.is_some() {
            return self.adopt(session, &before, now).await;
        }
        // A clock ahead of MongoDB's must not invoice the future.
        let as_of = self.args.as_of.min(now);
        let due_until = clock::earlier(as_of, ctx.invoicing.past_due_grace);
        if !before.status.is_live() {
            ctx.invoices
                .mark_overdue(session, id, due_until, now)
                .await?;
            return Ok(Claimed::Settled(None));
        }
        let mut after = before.clone();
        prepare(&mut after, self.args, now);
        let released = self.args.periods.and_then(|it| usize::try_from(it).ok());
        match after.next(tenant.status, released, as_of) {
            Next::Invoice(period) => {
                let key = Invoice::period_key(tenant.id, period);
                let known = ctx.invoices.find_of_period(session, &key).await?;
                let claimed = match known {
                    Some(known) if is_undecided(&known, now) => {
                        Claimed::Settled(Some(known_period(period, &known, "waits for")))
                    }
                    Some(known) => {
                        after.advance_to(period.end);
                        let change = known_period(period, &known, "is invoiced already:");
                        Claimed::Changed(change, Vec::new())
                    }
                    None => {
                        let issued = self.issue(session, &tenant, &mut after, period, now);
                        let (change, jobs) = issued.await?;
                        Claimed::Changed(change, jobs)
                    }
                };
                self.save(session, &tenant, before, after, now).await?;
                Ok(claimed)
            }
            Next::End { at, by } => {
                after.end(at, by);
                self.save(session, &tenant, before, after, now).await?;
                Ok(Claimed::Settled(Some("subscription ended".to_owned())))
            }
            Next::Hold { periods } => {
                self.save(session, &tenant, before, after, now).await?;
                Ok(Claimed::Held(periods))
            }
            Next::Nothing => {
                let change = self.assess(session, &mut after, due_until, now).await?;
                self.save(session, &tenant, before, after, now).await?;
                Ok(Claimed::Settled(change))
            }
        }
    }

    /// Has the sync decide whether Stripe bills a subscription that was imported.
    async fn adopt(
        &self,
        session: &mut ClientSession,
        subscription: &Subscription,
        now: DateTime,
    ) -> Result<Claimed, StoreError> {
        let args = SyncBilling {
            tenant_id: subscription.tenant_id,
            dry_run: false,
        };
        let job = NewJob::new(&args, &self.run.job.created_by, now)?;
        let job = self.run.ctx.jobs.enqueue(session, &job).await?;
        Ok(Claimed::Adopted(Box::new(job)))
    }

    /// Issues the invoice of `period`, and moves the end of the last invoiced one.
    async fn issue(
        &self,
        session: &mut ClientSession,
        tenant: &Tenant,
        subscription: &mut Subscription,
        period: Period,
        now: DateTime,
    ) -> Result<(String, Vec<Job>), StoreError> {
        let ctx = &self.run.ctx;
        subscription.advance_to(period.end);
        let partner = match tenant.partner_id {
            Some(id) => ctx.partners.find_in_transaction(session, id).await?,
            None => None,
        };
        let parties = Parties {
            tenant,
            partner: partner.as_ref(),
        };
        let config = &ctx.invoicing;
        let mut invoice = Invoice::of_period(subscription, period, parties, config, now);
        if invoice.is_numbered() {
            let counter = counter_key(&config.legal_entity, invoice.issued_at);
            invoice.number = Some(ctx.invoices.next_number(session, &counter).await?);
        }
        ctx.invoices.insert(session, &invoice).await?;
        let totals = &ctx.billing_totals;
        totals.record_invoice(session, None, &invoice, now).await?;
        let number = invoice.number.clone().unwrap_or_default();
        let target = Target::new("invoice", invoice.id, number);
        let event = self
            .event(Action::InvoiceCreate, target, tenant, now)
            .with_changes(&Document::new(), &to_document(&invoice)?);
        ctx.audit.record(session, &event).await?;
        let mut jobs = Vec::new();
        if invoice.sent_by_stripe {
            jobs.push(self.enqueue_issue(session, &invoice, now).await?);
        }
        Ok((described(&invoice, period), jobs))
    }

    async fn enqueue_issue(
        &self,
        session: &mut ClientSession,
        invoice: &Invoice,
        now: DateTime,
    ) -> Result<Job, StoreError> {
        let args = IssueInvoice {
            tenant_id: invoice.tenant_id,
            invoice_id: invoice.id,
        };
        let job = NewJob::new(&args, &self.run.job.created_by, now)?;
        self.run.ctx.jobs.enqueue(session, &job).await
    }

    /// Sets the status by the invoices that are overdue. One that Stripe bills has the status that it has there.
    async fn assess(
        &self,
        session: &mut ClientSession,
        subscription: &mut Subscription,
        until: DateTime,
        now: DateTime,
    ) -> Result<Option<String>, StoreError> {
        let invoices = &self.run.ctx.invoices;
        let id = subscription.id;
        invoices.mark_overdue(session, id, until, now).await?;
        if subscription.biller == Biller::Stripe {
            return Ok(None);
        }
        let has_overdue = invoices.has_overdue(session, id).await?;
        let status = SubscriptionStatus::by_invoices(has_overdue);
        if status == subscription.status {
            return Ok(None);
        }
        subscription.status = status;
        let change = match status {
            SubscriptionStatus::PastDue => "subscription is past due",
            _ => "subscription is active again",
        };
        Ok(Some(change.to_owned()))
    }

    /// Stores the subscription if it changed, with the audit event of what is not explained by an invoice.
    async fn save(
        &self,
        session: &mut ClientSession,
        tenant: &Tenant,
        before: Subscription,
        mut after: Subscription,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let ctx = &self.run.ctx;
        let saved = ctx
            .subscriptions
            .save_changed(session, &before, &mut after, now);
        if !saved.await? {
            return Ok(());
        }
        let event = self.change_event(tenant, &before, &after, now)?;
        match event {
            Some(event) => ctx.audit.record(session, &event).await,
            None => Ok(()),
        }
    }

    fn change_event(
        &self,
        tenant: &Tenant,
        before: &Subscription,
        after: &Subscription,
        now: DateTime,
    ) -> Result<Option<AuditEvent>, StoreError> {
        let is_enrolled = before.is_enrolled() != after.is_enrolled();
        if !is_enrolled && before.status == after.status {
            return Ok(None);
        }
        let action = if after.status.is_live() {
            Action::SubscriptionUpdate
        } else {
            Action::SubscriptionDelete
        };
        let target = Target::new("subscription", after.id, &tenant.slug);
        let event = self.event(action, target, tenant, now);
        let (before, after) = (audit_event::fields(before)?, audit_event::fields(after)?);
        Ok(Some(event.with_changes(&before, &after)))
    }

    fn event(&self, action: Action, target: Target, tenant: &Tenant, now: DateTime) -> AuditEvent {
        audit_event::event(action, target, Some(tenant.id), self.run.job.id, now)
    }
}

/// Whether it is an invoice of Stripe's own that is not paid yet. That of a subscription which left its card before the first
/// payment is voided, and its event may be late: passed over, the period would be billed by neither. An old one that is still
/// open stays so until it is paid, and the periods after it must not wait for that.
fn is_undecided(known: &Invoice, now: DateTime) -> bool {
    let is_of_card = known.stripe.is_some() && !known.sent_by_stripe;
    let is_recent = known.issued_at > clock::earlier(now, UNDECIDED_FOR);
    is_of_card && is_recent && known.status == InvoiceStatus::Open
}

/// Description of a period that has an invoice.
fn known_period(period: Period, known: &Invoice, relation: &str) -> String {
    let (start, id) = (text_of(period.start), known.id);
    format!("period from {start} {relation} {id}")
}

/// Whether it was imported with one at Stripe, and neither biller has begun.
fn is_imported(subscription: &Subscription) -> bool {
    let is_new = subscription.status.is_live() && !subscription.is_enrolled();
    is_new && subscription.stripe_subscription_id.is_some()
}

fn described(invoice: &Invoice, period: Period) -> String {
    let number = invoice.number.as_deref().unwrap_or("without a number");
    let (start, end) = (text_of(period.start), text_of(period.end));
    let (amount, currency) = (invoice.subtotal_minor, &invoice.currency);
    format!("invoice {number} over {amount} {currency} (minor units) for {start} to {end}")
}
