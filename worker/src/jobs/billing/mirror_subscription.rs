//! Mirror of a subscription at Stripe into ours, in one transaction with its audit event.

use bson::DateTime;
use dezky_shared::{
    audit::{Action, Target},
    billing_account::BillingAccount,
    card_billing::{CardContext, ReadSubscription},
    id::SubscriptionId,
    invoicing::Enrolment,
    store::{StoreError, VersionedRepository as _},
    stripe_call::{StripeCall, StripeCallState},
    subscription::Subscription,
    tenant::Tenant,
};
use futures::FutureExt as _;
use mongodb::ClientSession;

use super::keyed_calls::{CREATE_SUBSCRIPTION, KeyedCalls};
use crate::{
    jobs::audit_event,
    steps::{StepContext, StepFailure},
};

/// Mirror of a tenant's subscription at Stripe.
#[derive(Clone, Copy)]
pub(super) struct SubscriptionMirror<'a> {
    pub(super) run: &'a StepContext,
    pub(super) tenant: &'a Tenant,
    pub(super) account: &'a BillingAccount,
    pub(super) context: CardContext,
}

/// A write to a subscription.
enum Change<'a> {
    /// Adopts an imported one, and enrols it.
    Prepare(Option<&'a ReadSubscription>),
    /// Follows the one at Stripe.
    Store(Option<&'a ReadSubscription>),
    /// Makes Stripe the biller, unless it changed since it was seen.
    Begin(&'a Subscription),
    /// Ends the refused call in this state, and makes the biller before the biller again.
    TakeBack(&'a StripeCall, StripeCallState),
}

impl SubscriptionMirror<'_> {
    /// Enrols a subscription, and adopts the one at Stripe that was imported with it. Returns ours; `None` if it has ended
    /// meanwhile.
    pub(super) async fn prepare(
        self,
        id: SubscriptionId,
        read: Option<&ReadSubscription>,
    ) -> Result<Option<Subscription>, StepFailure> {
        self.write(id, Change::Prepare(read)).await
    }

    /// Makes Stripe the biller. Returns whether it did: not if the subscription has ended or changed since it was `seen`, or
    /// its tenant leaves by now.
    pub(super) async fn begin(self, seen: &Subscription) -> Result<bool, StepFailure> {
        let begun = self.write(seen.id, Change::Begin(seen)).await?;
        Ok(begun.is_some())
    }

    /// Gives a subscription whose creation was refused back to the biller before, and ends the call. Both at once: while the
    /// run bills it, no open call may be repeated with the period of then.
    pub(super) async fn take_back(
        self,
        id: SubscriptionId,
        call: &StripeCall,
        state: StripeCallState,
    ) -> Result<(), StepFailure> {
        self.write(id, Change::TakeBack(call, state)).await?;
        Ok(())
    }

    /// Makes ours follow the one at Stripe. Returns the changes.
    ///
    /// Without a live one, ours stays as it is while a creation is in doubt: the request may still arrive, and Stripe would
    /// charge a period that the run has invoiced, or a subscription that has ended.
    pub(super) async fn store(
        self,
        id: SubscriptionId,
        read: Option<&ReadSubscription>,
    ) -> Result<Vec<String>, StepFailure> {
        let calls = KeyedCalls(self.run);
        if read.is_some_and(|read| read.known_status.is_live()) {
            calls.confirm(CREATE_SUBSCRIPTION, id).await?;
        } else if calls.is_in_doubt(CREATE_SUBSCRIPTION, id).await? {
            return Ok(vec![
                "the request that creates the subscription may still arrive".to_owned(),
            ]);
        }
        let before = self.run.ctx.subscriptions.find(id).await?;
        let after = self.write(id, Change::Store(read)).await?;
        let described = |it: &Subscription| (it.status, it.biller, it.stripe_status.clone());
        let (before, after) = (
            before.as_ref().map(described),
            after.as_ref().map(described),
        );
        let Some((status, biller, at_stripe)) =
            after.filter(|after| Some(after) != before.as_ref())
        else {
            return Ok(Vec::new());
        };
        let at_stripe = at_stripe.unwrap_or_else(|| "missing".to_owned());
        Ok(vec![format!(
            "subscription is {status:?}, billed by {biller:?}, {at_stripe} at Stripe"
        )])
    }

    async fn write(
        self,
        id: SubscriptionId,
        change: Change<'_>,
    ) -> Result<Option<Subscription>, StepFailure> {
        let writing = (self, id, change);
        let written = self.run.fenced_transaction(writing, |session, writing| {
            let (this, id, change) = &*writing;
            this.write_once(session, *id, change).boxed()
        });
        written.await
    }

    /// One attempt of the transaction.
    async fn write_once(
        &self,
        session: &mut ClientSession,
        id: SubscriptionId,
        change: &Change<'_>,
    ) -> Result<Option<Subscription>, StoreError> {
        let (ctx, now) = (&self.run.ctx, self.run.ctx.store.now());
        if let Change::TakeBack(call, state) = change {
            ctx.stripe_calls.end(session, call, *state, None).await?;
        }
        let found = ctx.subscriptions.find_in_transaction(session, id).await?;
        let Some(before) = found.filter(|it| it.status.is_live()) else {
            return Ok(None);
        };
        let mut after = before.clone();
        match change {
            Change::Prepare(read) => {
                if let Some(read) = read {
                    after.adopt_imported(read);
                }
                after.enrol(Enrolment::Existing, now);
            }
            Change::Store(Some(read)) => {
                let is_gone = self.account.is_former(&read.customer);
                after.mirror_card(read, self.context, is_gone);
            }
            Change::Store(None) => after.mirror_no_card(self.context),
            Change::Begin(seen) => {
                if !before.is_charged_as(seen) || self.is_leaving(session).await? {
                    return Ok(None);
                }
                after.begin_card();
            }
            Change::TakeBack(..) => after.take_back_card(),
        }
        self.save(session, &before, &mut after, now).await?;
        Ok(Some(after))
    }

    /// Whether the tenant, as this transaction reads it, is charged for no other period.
    async fn is_leaving(&self, session: &mut ClientSession) -> Result<bool, StoreError> {
        let tenants = &self.run.ctx.tenants;
        let tenant = tenants.find_in_transaction(session, self.tenant.id).await?;
        Ok(tenant.is_none_or(|tenant| {
            let context = CardContext {
                tenant: tenant.status,
                ..self.context
            };
            context.is_leaving()
        }))
    }

    async fn save(
        &self,
        session: &mut ClientSession,
        before: &Subscription,
        after: &mut Subscription,
        now: DateTime,
    ) -> Result<(), StoreError> {
        let (ctx, tenant) = (&self.run.ctx, self.tenant);
        let saved = ctx.subscriptions.save_changed(session, before, after, now);
        if !saved.await? {
            return Ok(());
        }
        let action = if after.status.is_live() {
            Action::SubscriptionUpdate
        } else {
            Action::SubscriptionDelete
        };
        let target = Target::new("subscription", after.id, &tenant.slug);
        let event = audit_event::event(action, target, Some(tenant.id), self.run.job.id, now);
        let fields = (audit_event::fields(before)?, audit_event::fields(after)?);
        let event = event.with_changes(&fields.0, &fields.1);
        ctx.audit.record(session, &event).await
    }
}
