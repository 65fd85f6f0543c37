//! Sync of a tenant's subscription with the one at Stripe that charges its card: created, changed, ended, and mirrored.
//!
//! There is never a second one. Before anything is created, all of the customer's are listed; another live one is cancelled
//! if it belongs to a subscription of this tenant, and left alone if it does not. While a subscription is
//! created, the invoice run does not bill it: our subscription says so before the call. A creation whose answer was lost is
//! repeated as it was requested, and changed afterwards.

mod creation;
mod next_invoice;

use dezky_shared::{
    billing_account::BillingAccount,
    card_billing::{CardAction, CardContext, ReadSubscription, StripeStatus},
    queue::error_code::ErrorCode,
    subscription::Subscription,
    tenant::Tenant,
};
use dezky_upstreams::clients::stripe::{Stripe, SubscriptionChange};

use super::{
    card_catalog::{CardCatalog, changed},
    keyed_calls::{CREATE_SUBSCRIPTION, KeyedCalls},
    mirror_subscription::SubscriptionMirror,
    read_subscription::{converted, read_subscription, with_payment},
};
use crate::steps::{StepContext, StepFailure};

const UPDATE: &str = "subscription.update";
const VOID: &str = "invoice.void";

/// A tenant's live subscription.
enum Live {
    One(Box<Subscription>),
    /// One of a newer build, whose terms are not known: the one at Stripe stays as it is.
    Unreadable,
    None,
}

/// The subscriptions of a customer.
pub(super) struct CardSync<'a> {
    pub(super) run: &'a StepContext,
    pub(super) stripe: Stripe,
    pub(super) tenant: &'a Tenant,
    pub(super) account: &'a BillingAccount,
    pub(super) changes: Vec<String>,
}

impl CardSync<'_> {
    /// Brings the subscription at Stripe to our terms, and mirrors its state into ours.
    pub(super) async fn apply(&mut self) -> Result<(), StepFailure> {
        let ours = match self.live().await? {
            Live::One(ours) => *ours,
            Live::None => {
                let known = self.list().await?;
                self.cancel_others(&known, None).await?;
                return Ok(());
            }
            Live::Unreadable => return Ok(()),
        };
        let known = self.list_with(&ours).await?;
        let read = own(&known, &ours);
        let left = self.cancel_others(&known, read).await?;
        let ours = self.mirror().prepare(ours.id, read).await?;
        let Some(ours) = ours else {
            return Ok(());
        };
        self.confirm_calls(&ours, read).await?;
        let read = match ours.card_action(read, self.context()) {
            CardAction::Keep => read.cloned(),
            CardAction::Wait => {
                let detail = "the next period begins in a moment";
                return Err(StepFailure::new(ErrorCode::UpstreamNotReady, detail));
            }
            CardAction::Create { anchor } => {
                if let Some(left) = left {
                    return Err(left_alone(&left));
                }
                let id = self.create(&ours, anchor).await?;
                let created = self.read(&id).await?;
                // An earlier request has created it with the terms of then.
                Some(self.adjust(&ours, created).await?)
            }
            CardAction::Update { .. } => {
                let read = read.ok_or_else(|| changed("the subscription is gone"))?;
                Some(self.adjust(&ours, read.clone()).await?)
            }
            CardAction::Cancel => {
                let read = read.ok_or_else(|| changed("the subscription is gone"))?;
                // Recorded before it is cancelled: ours ends with a subscription that it knows.
                let changes = self.mirror().store(ours.id, Some(read)).await?;
                self.changes.extend(changes);
                self.cancel(read).await?;
                Some(self.read(&read.id).await?)
            }
        };
        let changes = self.mirror().store(ours.id, read.as_ref()).await?;
        self.changes.extend(changes);
        Ok(())
    }

    /// Lists the changes that a sync would make at Stripe.
    pub(super) async fn preview(&mut self) -> Result<(), StepFailure> {
        let Live::One(mut ours) = self.live().await? else {
            return Ok(());
        };
        let known = self.list_with(&ours).await?;
        let read = own(&known, &ours);
        if let Some(read) = read {
            ours.adopt_imported(read);
        }
        let change = match ours.card_action(read, self.context()) {
            CardAction::Keep | CardAction::Wait => return Ok(()),
            CardAction::Create { .. } => "would create the subscription",
            CardAction::Update {
                sets_terms: true, ..
            } => "would change the subscription's price",
            CardAction::Update { .. } => "would change the subscription",
            CardAction::Cancel => "would cancel the subscription",
        };
        self.changes.push(change.to_owned());
        Ok(())
    }

    fn context(&self) -> CardContext {
        CardContext {
            tenant: self.tenant.status,
            has_card: self.account.default_card.is_some(),
            now: self.run.ctx.store.now(),
        }
    }

    fn mirror(&self) -> SubscriptionMirror<'_> {
        SubscriptionMirror {
            run: self.run,
            tenant: self.tenant,
            account: self.account,
            context: self.context(),
        }
    }

    /// The tenant's live subscription.
    async fn live(&self) -> Result<Live, StepFailure> {
        let subscriptions = &self.run.ctx.subscriptions;
        let mut live = subscriptions.list_live(&[self.tenant.id]).await?;
        Ok(match live.remove(&self.tenant.id) {
            Some(Some(ours)) => Live::One(Box::new(ours)),
            Some(None) => Live::Unreadable,
            None => Live::None,
        })
    }

    /// All subscriptions of the customer, newest first, and those of the customers before it: a sale in another currency has
    /// a new customer, and would leave one that was not ended yet with the former, charged for ever.
    async fn list(&self) -> Result<Vec<ReadSubscription>, StepFailure> {
        let former = self.account.former_stripe_customer_ids.iter().rev();
        let mut known = Vec::new();
        for customer in self.account.stripe_customer_id.iter().chain(former) {
            let listed = self.stripe.list_subscriptions(customer).await?;
            for found in &listed {
                known.push(converted(found)?);
            }
        }
        Ok(known)
    }

    /// All subscriptions of the customers, and the known one of ours. Its payments are read.
    async fn list_with(&self, ours: &Subscription) -> Result<Vec<ReadSubscription>, StepFailure> {
        let mut known = self.list().await?;
        if let Some(id) = &ours.stripe_subscription_id
            && !known.iter().any(|read| read.id == *id)
            && let Some(found) = self.stripe.retrieve_subscription(id).await?
        {
            known.push(converted(&found)?);
        }
        let id = own(&known, ours).map(|read| read.id.clone());
        if let Some(read) = known.iter_mut().find(|read| Some(&read.id) == id.as_ref())
            && read.known_status.is_live()
        {
            *read = with_payment(&self.stripe, read.clone()).await?;
        }
        Ok(known)
    }

    async fn read(&self, id: &str) -> Result<ReadSubscription, StepFailure> {
        let found = self.stripe.retrieve_subscription(id).await?;
        let found = found.ok_or_else(|| changed("the subscription is gone"))?;
        read_subscription(&self.stripe, &found).await
    }

    /// Cancels the other live subscriptions that belong to one of ours, which may have ended. One of ours that the database
    /// does not know, as after the restore of an older one, is named and left to a person. Returns the id of the last one
    /// that is left.
    async fn cancel_others(
        &mut self,
        known: &[ReadSubscription],
        own: Option<&ReadSubscription>,
    ) -> Result<Option<String>, StepFailure> {
        let is_other = |read: &&ReadSubscription| own.is_none_or(|own| own.id != read.id);
        let live = known.iter().filter(|read| read.known_status.is_live());
        let others: Vec<&ReadSubscription> = live.filter(is_other).collect();
        if others.is_empty() {
            return Ok(None);
        }
        let mut left = None;
        let tenant = self.tenant.id;
        let ours = self.run.ctx.subscriptions.list_for(&[tenant]).await?;
        for other in others {
            let id = &other.id;
            let is_of = |it: &Subscription| {
                it.stripe_subscription_id.as_ref() == Some(id)
                    || other.subscription_id == Some(it.id)
            };
            if ours.iter().any(is_of) {
                self.cancel(other).await?;
            } else if other.tenant_id == Some(tenant) {
                tracing::error!(%tenant, subscription = %id, "A subscription at Stripe is not known here");
                let change = format!("subscription {id} is not known here, and is left");
                self.changes.push(change);
                left = Some(id.clone());
            }
        }
        Ok(left)
    }

    /// Cancels a subscription. The invoice of one that was never paid is voided before: Stripe leaves it open, and a person
    /// could still pay it on its page.
    async fn cancel(&mut self, read: &ReadSubscription) -> Result<(), StepFailure> {
        let id = &read.id;
        if read.known_status == StripeStatus::Incomplete
            && let Some(invoice) = &read.latest_invoice
        {
            self.void(invoice).await?;
        }
        if self.stripe.cancel_subscription(id).await? {
            self.changes.push(format!("subscription {id} cancelled"));
        }
        Ok(())
    }

    /// Voids an invoice if it is open.
    async fn void(&mut self, id: &str) -> Result<(), StepFailure> {
        let found = self.stripe.retrieve_invoice(id).await?;
        if found.is_none_or(|found| found.status.as_deref() != Some("open")) {
            return Ok(());
        }
        let calls = KeyedCalls(self.run);
        let call = calls.begin_repeatable(VOID, id, &[id]).await?;
        let sent = self.stripe.void_invoice(id, &call.key()).await;
        calls.settle(&call, &sent, |_| None).await?;
        if sent.as_ref().is_err_and(|failed| failed.is_key_spent) {
            return Err(changed("the first invoice was closed meanwhile"));
        }
        sent?;
        self.changes.push(format!("invoice {id} voided"));
        Ok(())
    }

    /// Changes one that differs from ours. Returns it as it is then.
    async fn adjust(
        &mut self,
        ours: &Subscription,
        read: ReadSubscription,
    ) -> Result<ReadSubscription, StepFailure> {
        let CardAction::Update {
            sets_terms,
            cancel_at_period_end,
        } = ours.card_action(Some(&read), self.context())
        else {
            return Ok(read);
        };
        let change = self.change(ours, &read, sets_terms, cancel_at_period_end);
        let change = change.await?;
        self.update(ours, &read.id, &change).await?;
        self.read(&read.id).await
    }

    async fn change(
        &self,
        ours: &Subscription,
        read: &ReadSubscription,
        sets_terms: bool,
        cancel_at_period_end: bool,
    ) -> Result<SubscriptionChange, StepFailure> {
        let catalog = CardCatalog {
            run: self.run,
            stripe: &self.stripe,
        };
        let price = if sets_terms {
            let price = catalog.price_of(ours).await?;
            Some((read.item_id.clone(), price))
        } else {
            None
        };
        Ok(SubscriptionChange {
            price,
            cancel_at_period_end,
            clears_payment_method: read.has_own_card,
        })
    }

    async fn update(
        &mut self,
        ours: &Subscription,
        id: &str,
        change: &SubscriptionChange,
    ) -> Result<(), StepFailure> {
        let (item, price) = change.price.clone().unwrap_or_default();
        let flags = format!(
            "{}/{}",
            change.cancel_at_period_end, change.clears_payment_method
        );
        let calls = KeyedCalls(self.run);
        let parameters = [id, &item, &price, &flags];
        let call = calls.begin_repeatable(UPDATE, ours.id, &parameters);
        let call = call.await?;
        let sent = self
            .stripe
            .update_subscription(id, change, &call.key())
            .await;
        calls
            .settle(&call, &sent, |changed| Some(changed.as_ref()?.id.as_str()))
            .await?;
        sent?.ok_or_else(|| changed("the subscription is gone"))?;
        let described = match (&change.price, change.cancel_at_period_end) {
            (Some(_), _) => "subscription's price changed",
            (None, true) => "subscription ends with its period",
            (None, false) => "subscription changed",
        };
        self.changes.push(described.to_owned());
        Ok(())
    }

    /// Ends calls whose answer was lost once their effect is seen: a repeat of their keys would replay it after it was changed.
    async fn confirm_calls(
        &self,
        ours: &Subscription,
        read: Option<&ReadSubscription>,
    ) -> Result<(), StepFailure> {
        if read.is_none_or(|read| !read.known_status.is_live()) {
            return Ok(());
        }
        let calls = KeyedCalls(self.run);
        calls.confirm(CREATE_SUBSCRIPTION, ours.id).await?;
        if ours.card_action(read, self.context()) == CardAction::Keep {
            calls.confirm(UPDATE, ours.id).await?;
        }
        Ok(())
    }
}

/// Refusal to create a subscription beside one that charges the customer, and that only a person can judge.
fn left_alone(id: &str) -> StepFailure {
    let detail = format!(
        "subscription {id} at Stripe is not known here, and charges the customer; cancel it there, then sync again"
    );
    StepFailure::new(ErrorCode::UpstreamConflict, detail)
}

/// The subscription at Stripe that belongs to ours: the live one, else the one that is known. If there are several, the
/// oldest.
fn own<'r>(known: &'r [ReadSubscription], ours: &Subscription) -> Option<&'r ReadSubscription> {
    let stored = ours.stripe_subscription_id.as_ref();
    let is_known = |read: &&ReadSubscription| Some(&read.id) == stored;
    let is_named = |read: &&ReadSubscription| read.subscription_id == Some(ours.id);
    let live = known
        .iter()
        .rev()
        .filter(|read| read.known_status.is_live());
    let live: Vec<&ReadSubscription> = live.collect();
    let found = live.iter().copied().find(is_known);
    found
        .or_else(|| live.iter().copied().find(is_named))
        .or_else(|| known.iter().find(is_known))
}
