//! Subscriptions that Stripe bills to a card: ours is the intent, the one at Stripe the fact.
//!
//! The decisions are pure functions of both. A sync compares them and makes Stripe's what ours wants; then it mirrors the
//! fact. Periods, amounts and payments are Stripe's; plan, cycle, price and end are ours.

mod first_card;

use bson::DateTime;

use crate::{
    billing::{Cycle, Plan, period::Period},
    id::{SubscriptionId, TenantId},
    subscription::{Biller, CollectionMethod, EndedBy, Subscription, SubscriptionStatus},
    tenant::TenantStatus,
};

/// Milliseconds before a boundary in which no first period is anchored to it: the request would arrive too late.
const TOO_SOON: i64 = 60_000;

/// Status of a subscription at Stripe, by its meaning for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StripeStatus {
    /// In force.
    InForce,
    /// In force, with a payment that failed.
    Unpaid,
    /// Begun, and the first payment is not made. It expires after 23 hours.
    Incomplete,
    /// Ended before it was paid.
    Expired,
    /// Ended.
    Canceled,
}

impl StripeStatus {
    /// Parses Stripe's status; `None` for an unknown one.
    pub fn of(status: &str) -> Option<Self> {
        match status {
            "active" | "trialing" => Some(Self::InForce),
            "past_due" | "unpaid" | "paused" => Some(Self::Unpaid),
            "incomplete" => Some(Self::Incomplete),
            "incomplete_expired" => Some(Self::Expired),
            "canceled" => Some(Self::Canceled),
            _ => None,
        }
    }

    /// Whether it has not ended.
    pub const fn is_live(self) -> bool {
        matches!(self, Self::InForce | Self::Unpaid | Self::Incomplete)
    }
}

/// Terms that a subscription is charged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CardTerms {
    /// Id of the product at Stripe.
    pub product: String,
    /// Billing cycle.
    pub cycle: Cycle,
    /// Currency, ISO 4217, upper case.
    pub currency: String,
    /// Price of a cycle, in minor units.
    pub price_minor: i64,
}

impl CardTerms {
    /// The lookup key of their price at Stripe: prices of equal terms are one.
    pub fn lookup_key(&self) -> String {
        let (cycle, currency) = (self.cycle.name(), self.currency.to_ascii_lowercase());
        format!("{}_{cycle}_{currency}_{}", self.product, self.price_minor)
    }
}

/// Id of a plan's product at Stripe.
pub fn product_id(plan: Plan) -> String {
    format!("plan_{}", plan.name())
}

/// A subscription at Stripe, in our units.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent flags, as Stripe has them"
)]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadSubscription {
    /// Id.
    pub id: String,
    /// Customer.
    pub customer: String,
    /// Our tenant, if it was created for one.
    pub tenant_id: Option<TenantId>,
    /// Our subscription, if it was created for one.
    pub subscription_id: Option<SubscriptionId>,
    /// Status, as Stripe writes it.
    pub status: String,
    /// Status, parsed.
    pub known_status: StripeStatus,
    /// Terms; none if its price has a form that we do not sell.
    pub terms: Option<CardTerms>,
    /// Id of its price.
    pub price_id: String,
    /// Id of its item.
    pub item_id: String,
    /// Current period.
    pub period: Period,
    /// Instant from which its periods are counted.
    pub anchor: DateTime,
    /// Whether it ends with the current period.
    pub cancel_at_period_end: bool,
    /// Whether another payment method than the customer's is charged.
    pub has_own_card: bool,
    /// Time of its end.
    pub ended_at: Option<DateTime>,
    /// Whether it ended because a payment failed.
    pub is_payment_failed: bool,
    /// Last invoice.
    pub latest_invoice: Option<String>,
    /// Whether the customer has to authenticate a payment at the bank.
    pub needs_authentication: bool,
    /// Whether it has items besides the oldest one, which is ours.
    pub has_other_items: bool,
}

/// Next action at Stripe for a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CardAction {
    /// Nothing.
    Keep,
    /// Wait until this boundary has passed, which is near.
    Wait,
    /// Create it.
    Create {
        /// Boundary at which the first charged period begins; now if missing.
        anchor: Option<DateTime>,
    },
    /// Change it.
    Update {
        /// Whether it gets our terms.
        sets_terms: bool,
        /// Whether it ends with its current period.
        cancel_at_period_end: bool,
    },
    /// Cancel it now.
    Cancel,
}

/// Circumstances of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CardContext {
    /// Status of the tenant.
    pub tenant: TenantStatus,
    /// Whether the customer has a card.
    pub has_card: bool,
    /// Now.
    pub now: DateTime,
}

impl CardContext {
    /// Whether the tenant leaves: it is charged for no other period.
    pub const fn is_leaving(self) -> bool {
        matches!(
            self.tenant,
            TenantStatus::Terminating | TenantStatus::Terminated
        )
    }
}

impl Subscription {
    /// Whether Stripe is to charge it to a card. A price of nothing, and what a partner owes, is invoiced by the run.
    pub fn is_by_card(&self) -> bool {
        let by_card = self.collection_method == CollectionMethod::ChargeAutomatically;
        by_card && !self.partner_billed && self.price_minor > 0
    }

    /// Whether Stripe may charge it: it bills it, or one there was imported with it.
    pub fn may_be_charged(&self) -> bool {
        self.biller == Biller::Stripe || self.stripe_subscription_id.is_some()
    }

    /// Its terms at Stripe.
    pub fn card_terms(&self) -> CardTerms {
        CardTerms {
            product: product_id(self.plan),
            cycle: self.cycle,
            currency: self.currency.clone(),
            price_minor: self.price_minor,
        }
    }

    /// Adopts a live subscription at Stripe that was imported with ours: Stripe has billed it, and goes on.
    pub fn adopt_imported(&mut self, read: &ReadSubscription) {
        if !self.is_enrolled() && read.known_status.is_live() {
            self.collection_method = CollectionMethod::ChargeAutomatically;
            self.biller = Biller::Stripe;
        }
    }

    /// Next action for a live subscription, given the one at Stripe that belongs to it.
    pub fn card_action(&self, read: Option<&ReadSubscription>, context: CardContext) -> CardAction {
        match read.filter(|read| read.known_status.is_live()) {
            Some(read) => self.change_of(read, context),
            None => self.creation(context),
        }
    }

    fn change_of(&self, read: &ReadSubscription, context: CardContext) -> CardAction {
        let ends = self.cancel_at_period_end || !self.is_by_card() || context.is_leaving();
        let is_unpaid = read.known_status == StripeStatus::Incomplete;
        if context.tenant == TenantStatus::Terminated || (ends && is_unpaid) {
            return CardAction::Cancel;
        }
        // Stripe takes no other terms until the first payment is made.
        let may_change = self.is_by_card() && !context.is_leaving() && !is_unpaid;
        let sets_terms = may_change && read.terms.as_ref() != Some(&self.card_terms());
        if sets_terms || ends != read.cancel_at_period_end || read.has_own_card {
            return CardAction::Update {
                sets_terms,
                cancel_at_period_end: ends,
            };
        }
        CardAction::Keep
    }

    fn creation(&self, context: CardContext) -> CardAction {
        let is_wanted = self.is_by_card() && self.may_recreate && !self.cancel_at_period_end;
        if !is_wanted || !context.has_card || context.is_leaving() {
            return CardAction::Keep;
        }
        let now = context.now;
        let Some(through) = self.invoiced_through.filter(|through| *through > now) else {
            return CardAction::Create { anchor: None };
        };
        let is_near = through.timestamp_millis() - now.timestamp_millis() < TOO_SOON;
        // Stripe anchors a period at most one cycle ahead.
        let latest = self.cycle.renewal(now, now);
        if is_near {
            CardAction::Wait
        } else if latest.is_some_and(|latest| through <= latest) {
            CardAction::Create {
                anchor: Some(through),
            }
        } else {
            CardAction::Keep
        }
    }

    /// Whether it is to be created at Stripe as it was when it was `seen`. Otherwise a change meanwhile, such as an invoice of
    /// the run or its end, would be charged as well.
    pub fn is_charged_as(&self, seen: &Self) -> bool {
        let facts = |it: &Self| {
            (
                it.is_by_card(),
                it.cancel_at_period_end,
                it.invoiced_through,
            )
        };
        facts(self) == facts(seen) && self.card_terms() == seen.card_terms()
    }

    /// Makes Stripe the biller, before the creation there is requested.
    pub fn begin_card(&mut self) {
        self.leaves_run |= self.biller.is_run();
        self.biller = Biller::Stripe;
    }

    /// Makes the biller before the biller again, as Stripe has refused the creation. An earlier request may have begun it.
    pub fn take_back_card(&mut self) {
        if self.leaves_run {
            self.biller = Biller::Run;
            self.leaves_run = false;
        }
    }

    /// Makes a live subscription follow the one at Stripe, whose customer may be gone.
    pub fn mirror_card(
        &mut self,
        read: &ReadSubscription,
        context: CardContext,
        is_customer_gone: bool,
    ) {
        let is_new = self.stripe_subscription_id.as_ref() != Some(&read.id);
        if is_new && !read.known_status.is_live() {
            return;
        }
        let before = self.stripe_status.as_deref().and_then(StripeStatus::of);
        let is_paid_once = matches!(
            read.known_status,
            StripeStatus::InForce | StripeStatus::Unpaid
        );
        if is_new || is_paid_once {
            self.may_recreate = false;
            self.leaves_run = false;
        }
        self.stripe_subscription_id = Some(read.id.clone());
        self.stripe_price_id = Some(read.price_id.clone());
        self.stripe_status = Some(read.status.clone());
        self.needs_authentication = read.needs_authentication;
        self.has_other_items = read.has_other_items && read.known_status.is_live();
        match read.known_status {
            StripeStatus::InForce => self.follow_periods(read, SubscriptionStatus::Active),
            StripeStatus::Unpaid => self.follow_periods(read, SubscriptionStatus::PastDue),
            StripeStatus::Incomplete => {
                self.biller = Biller::Stripe;
                self.status = SubscriptionStatus::PastDue;
            }
            StripeStatus::Expired | StripeStatus::Canceled => {
                let is_never_paid = before == Some(StripeStatus::Incomplete);
                self.follow_end(read, context, is_customer_gone, is_never_paid);
            }
        }
    }

    /// Makes a live subscription follow that nothing at Stripe belongs to it.
    pub fn mirror_no_card(&mut self, context: CardContext) {
        if self.biller == Biller::Run {
            return;
        }
        if context.tenant == TenantStatus::Terminated {
            self.end(context.now, EndedBy::TenantTerminated);
        } else if !self.is_by_card() {
            self.biller = Biller::Run;
            self.may_recreate = false;
            self.leaves_run = false;
            self.restart_periods();
        } else if self.cancel_at_period_end
            && self
                .invoiced_through
                .is_none_or(|through| through <= context.now)
        {
            // Neither biller would end it.
            let at = self.invoiced_through.unwrap_or(context.now);
            self.end(at, EndedBy::PeriodEnd);
        } else if self.stripe_subscription_id.take().is_some() {
            // It waits for a person: its end there is not known.
            self.stripe_status = None;
            self.needs_authentication = false;
            self.has_other_items = false;
            self.status = SubscriptionStatus::PastDue;
        }
    }

    /// The periods are those that Stripe has invoiced.
    fn follow_periods(&mut self, read: &ReadSubscription, status: SubscriptionStatus) {
        self.biller = Biller::Stripe;
        self.status = status;
        self.billing_anchor = Some(read.anchor);
        self.advance_to(read.period.end);
    }

    /// The subscription at Stripe has ended: ours ends, too, unless it is to be billed on.
    fn follow_end(
        &mut self,
        read: &ReadSubscription,
        context: CardContext,
        is_customer_gone: bool,
        is_never_paid: bool,
    ) {
        if self.biller == Biller::Run {
            return;
        }
        if !self.is_by_card() {
            self.return_to_run(read, is_never_paid);
            return;
        }
        if context.tenant == TenantStatus::Terminating {
            // A restore has it billed on.
            self.may_recreate = true;
            return;
        }
        let is_expired = read.known_status == StripeStatus::Expired;
        let may_wait = context.tenant != TenantStatus::Terminated && !self.cancel_at_period_end;
        if may_wait && (is_expired || self.may_recreate) {
            // It waits for a person.
            self.status = SubscriptionStatus::PastDue;
            return;
        }
        let by = match context.tenant {
            TenantStatus::Terminated => EndedBy::TenantTerminated,
            _ if is_customer_gone => EndedBy::CustomerDeleted,
            _ if read.is_payment_failed => EndedBy::PaymentFailed,
            _ if self.cancel_at_period_end => EndedBy::PeriodEnd,
            _ => EndedBy::Stripe,
        };
        self.end(read.ended_at.unwrap_or(context.now), by);
    }

    /// The invoice run bills the periods after the last one that Stripe has invoiced. A first period that was never paid
    /// does not count.
    fn return_to_run(&mut self, read: &ReadSubscription, is_never_paid: bool) {
        self.biller = Biller::Run;
        self.may_recreate = false;
        self.needs_authentication = false;
        self.status = SubscriptionStatus::Active;
        if read.known_status == StripeStatus::Canceled && !is_never_paid {
            let through = self
                .invoiced_through
                .map_or(read.period.end, |through| through.max(read.period.end));
            self.advance_to(through);
        }
        self.restart_periods();
    }
}

#[cfg(test)]
mod tests;
