//! Mirror of an invoice: one of ours, with what reduces it there, and with the partner's share of it, in one transaction.
//!
//! An object that pays or reduces an invoice leads to it, and all of it is read again. So repetition, order and loss of
//! events do not matter, and neither do refunds that fail and disputes that are won.

use bson::Document;
use dezky_shared::{
    audit::{Action, Target},
    id::{SubscriptionId, TenantId},
    invoice::{Invoice, InvoiceStatus, Parties, ReadInvoice},
    store::{StoreError, VersionedRepository as _},
    subscription::{Subscription, SubscriptionStatus},
    webhook_event::EventState,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::{MIRRORED, Mirror};
use crate::{
    jobs::{audit_event, billing::read_invoice::InvoiceReader},
    steps::{StepFailure, StepSuccess},
};

/// Input of the transaction.
struct Storing<'a> {
    mirror: &'a Mirror<'a>,
    tenant_id: TenantId,
    subscription: Option<&'a str>,
    /// Our subscription that the one at Stripe was created for.
    created_for: Option<SubscriptionId>,
    read: &'a ReadInvoice,
}

impl Mirror<'_> {
    /// Stores the invoice of the tenant's customer. A draft is stored once it is issued.
    pub(super) async fn store_invoice(
        &self,
        tenant_id: TenantId,
    ) -> Result<StepSuccess, StepFailure> {
        let Some(invoice) = self.invoice().await? else {
            return self.ignore().await;
        };
        let reader = InvoiceReader(&self.stripe);
        let Some(read) = reader.read(&invoice).await? else {
            self.settle(tenant_id).await?;
            return Ok(StepSuccess::ok(MIRRORED, Vec::new()));
        };
        let storing = Storing {
            mirror: self,
            tenant_id,
            subscription: invoice.subscription(),
            created_for: invoice.created_for().and_then(|id| id.parse().ok()),
            read: &read,
        };
        let stored = self
            .run
            .fenced_transaction(storing, |session, storing| storing.store(session).boxed());
        Ok(StepSuccess::ok(MIRRORED, stored.await?))
    }
}

impl Storing<'_> {
    /// One attempt of the transaction. Returns the changes.
    async fn store(&self, session: &mut ClientSession) -> Result<Vec<String>, StoreError> {
        let ctx = &self.mirror.run.ctx;
        let now = ctx.store.now();
        let invoices = &ctx.invoices;
        let before = self.known(session).await?;
        let mut changes = Vec::new();
        let found = match &before {
            Some(before) => {
                let mut after = before.clone();
                after.mirror(self.read.clone());
                Some(after)
            }
            None => self.first_seen(session).await?,
        };
        if let Some(mut after) = found {
            changes.extend(self.claim_period(session, &mut after).await?);
            let is_changed = if let Some(before) = &before {
                invoices
                    .save_changed(session, before, &mut after, now)
                    .await?
            } else {
                invoices.insert(session, &after).await?;
                true
            };
            ctx.ledger.settle_invoice(session, &after, now).await?;
            if is_changed {
                let totals = &ctx.billing_totals;
                totals
                    .record_invoice(session, before.as_ref(), &after, now)
                    .await?;
                self.audit(session, before.as_ref(), &after).await?;
                changes.extend(self.reassess(session, &after).await?);
                changes.push(described(&after));
            }
        }
        let (events, waiting) = (&ctx.webhook_events, &self.mirror.waiting);
        let tenant = Some(self.tenant_id);
        events
            .settle(session, waiting, EventState::Processed, tenant)
            .await?;
        Ok(changes)
    }

    /// The invoice of ours: by its id at Stripe, else by the period that it was created for, if that id was lost.
    async fn known(&self, session: &mut ClientSession) -> Result<Option<Invoice>, StoreError> {
        let invoices = &self.mirror.run.ctx.invoices;
        let known = invoices.find_mirror(session, &self.read.stripe.id).await?;
        let Some(key) = self.read.period_key.as_ref().filter(|_| known.is_none()) else {
            return Ok(known);
        };
        let of_period = invoices.find_of_period(session, key).await?;
        let is_it = |invoice: &Invoice| {
            let is_unknown = invoice.sent_by_stripe && invoice.stripe.is_none();
            is_unknown && invoice.tenant_id == self.tenant_id
        };
        Ok(of_period.filter(is_it))
    }

    /// The invoice that is mirrored for the first time. `None` if its tenant is gone.
    async fn first_seen(&self, session: &mut ClientSession) -> Result<Option<Invoice>, StoreError> {
        let ctx = &self.mirror.run.ctx;
        let tenants = &ctx.tenants;
        let Some(tenant) = tenants.find_in_transaction(session, self.tenant_id).await? else {
            return Ok(None);
        };
        let partner = match tenant.partner_id {
            Some(id) => ctx.partners.find_in_transaction(session, id).await?,
            None => None,
        };
        let subscription = self.subscription(session).await?;
        let parties = Parties {
            tenant: &tenant,
            partner: partner.as_ref(),
        };
        Ok(Some(Invoice::of_stripe(
            self.read.clone(),
            subscription.as_ref(),
            parties,
            &ctx.invoicing,
            ctx.store.now(),
        )))
    }

    /// The subscription of ours that the invoice is of: by its id at Stripe, else by the one that it was created for, as
    /// while the answer of that call is lost. An invoice without it would have no period, and another could take that.
    async fn subscription(
        &self,
        session: &mut ClientSession,
    ) -> Result<Option<Subscription>, StoreError> {
        let subscriptions = &self.mirror.run.ctx.subscriptions;
        let Some(id) = self.subscription else {
            return Ok(None);
        };
        let known = subscriptions.find_of_stripe(session, self.tenant_id, id);
        if let Some(known) = known.await? {
            return Ok(Some(known));
        }
        let Some(id) = self.created_for else {
            return Ok(None);
        };
        let named = subscriptions.find_in_transaction(session, id).await?;
        Ok(named.filter(|it| it.tenant_id == self.tenant_id))
    }

    /// Gives the invoice the key of its period, unless the period is invoiced already. Returns a warning then: the customer
    /// may have been charged twice, which a person has to decide.
    async fn claim_period(
        &self,
        session: &mut ClientSession,
        invoice: &mut Invoice,
    ) -> Result<Option<String>, StoreError> {
        let own = format!("{}/", self.tenant_id);
        let created_for = self.read.period_key.clone();
        let created_for = created_for.filter(|key| key.starts_with(&own));
        let is_void = invoice.status == InvoiceStatus::Void;
        let wanted = created_for.or_else(|| invoice.wanted_period_key());
        let Some(key) = wanted.filter(|_| !is_void) else {
            return Ok(None);
        };
        let invoices = &self.mirror.run.ctx.invoices;
        let of_period = invoices.find_of_period(session, &key).await?;
        match of_period.filter(|other| other.id != invoice.id) {
            None => {
                let is_new = invoice.period_key.replace(key).is_none();
                if is_new {
                    self.overlap_of(session, invoice).await
                } else {
                    Ok(None)
                }
            }
            Some(other) => {
                let (id, other) = (invoice.stripe_id(), other.id);
                tracing::error!(invoice = %id, %other, "A period was invoiced by Stripe and by another invoice");
                Ok(Some(format!(
                    "PeriodOverlap: the period of {id} is invoiced by {other}"
                )))
            }
        }
    }

    /// The warning that the period of an invoice overlaps another invoiced one of its subscription, other than by a change of
    /// the cycle, which credits the rest of the period before.
    async fn overlap_of(
        &self,
        session: &mut ClientSession,
        invoice: &Invoice,
    ) -> Result<Option<String>, StoreError> {
        let (Some(subscription), Some(period)) = (invoice.subscription_id, invoice.period) else {
            return Ok(None);
        };
        let invoices = &self.mirror.run.ctx.invoices;
        let others = invoices.list_overlapping(session, subscription, period);
        for other in others.await? {
            let (earlier, later) = if other.period.is_some_and(|it| it.start < period.start) {
                (&other, invoice)
            } else {
                (invoice, &other)
            };
            if other.id != invoice.id && !later.credits_rest_of(earlier) {
                let (id, other) = (invoice.stripe_id(), other.id);
                tracing::error!(invoice = %id, %other, "The period of an invoice of Stripe overlaps that of another invoice");
                return Ok(Some(format!(
                    "PeriodOverlap: the period of {id} overlaps that of {other}"
                )));
            }
        }
        Ok(None)
    }

    /// Makes the subscription active again, unless another of its invoices is overdue.
    async fn reassess(
        &self,
        session: &mut ClientSession,
        invoice: &Invoice,
    ) -> Result<Option<String>, StoreError> {
        let run = self.mirror.run;
        let (ctx, now) = (&run.ctx, run.ctx.store.now());
        let Some(id) = invoice.subscription_id.filter(|_| invoice.sent_by_stripe) else {
            return Ok(None);
        };
        let found = ctx.subscriptions.find_in_transaction(session, id).await?;
        // The status of one that Stripe bills is the one that it has there.
        let is_behind =
            |it: &Subscription| it.status == SubscriptionStatus::PastDue && it.biller.is_run();
        let Some(before) = found.filter(is_behind) else {
            return Ok(None);
        };
        if ctx.invoices.has_overdue(session, id).await? {
            return Ok(None);
        }
        let mut after = before.clone();
        after.status = SubscriptionStatus::Active;
        ctx.subscriptions
            .save_changed(session, &before, &mut after, now)
            .await?;
        let target = Target::new("subscription", id, String::new());
        let action = Action::SubscriptionUpdate;
        let event = audit_event::event(action, target, Some(self.tenant_id), run.job.id, now);
        let (before, after) = (audit_event::fields(&before)?, audit_event::fields(&after)?);
        let event = event.with_changes(&before, &after);
        ctx.audit.record(session, &event).await?;
        Ok(Some("subscription is active again".to_owned()))
    }

    async fn audit(
        &self,
        session: &mut ClientSession,
        before: Option<&Invoice>,
        after: &Invoice,
    ) -> Result<(), StoreError> {
        let run = self.mirror.run;
        let before = before.map(audited).transpose()?;
        let number = after.number.clone().unwrap_or_default();
        let target = Target::new("invoice", after.id, number);
        let now = run.ctx.store.now();
        let action = Action::InvoiceMirror;
        let event = audit_event::event(action, target, Some(self.tenant_id), run.job.id, now);
        let none = Document::new();
        let event = event.with_changes(before.as_ref().unwrap_or(&none), &audited(after)?);
        run.ctx.audit.record(session, &event).await
    }
}

/// The audited fields. Links are left out, since they open the invoice.
fn audited(invoice: &Invoice) -> Result<Document, StoreError> {
    let mut fields = audit_event::fields(invoice)?;
    if let Ok(stripe) = fields.get_document_mut("stripe") {
        for link in ["hostedUrl", "pdfUrl"] {
            stripe.remove(link);
        }
    }
    Ok(fields)
}

fn described(invoice: &Invoice) -> String {
    let (id, status) = (invoice.stripe_id(), invoice.status.name());
    let (kept, currency) = (invoice.kept_minor(), &invoice.currency);
    format!("invoice {id} is {status}, {kept} {currency} (minor units) net")
}
