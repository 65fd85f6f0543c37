//! Periods of subscriptions: each is invoiced as it begins and charged to the card, and the clock begins the next ones.

use serde_json::{Value, json};

use super::{
    idempotency::Answer,
    params::Params,
    payment_methods::{CardBehaviour, behaviour_of},
    refusal::Refusal,
    state::State,
    subscriptions::{self, amount_of, cycle_of, has_ended, item_of, next_boundary, period_of},
};

/// Seconds after which a subscription expires whose first invoice is not paid.
const FIRST_PAYMENT: i64 = 23 * 60 * 60;
const ITEM: &str = "invoiceitem";

impl State {
    /// Puts the clock ahead, and does what Stripe does by itself until then, in order.
    pub(super) fn advance(&mut self, seconds: i64) {
        let end = self.now() + seconds;
        while let Some((at, subscription)) = self.next_due(end) {
            self.ahead += (at - self.now()).max(0);
            self.run_due(subscription);
        }
        self.ahead += (end - self.now()).max(0);
    }

    /// The subscription that is due first, until `end`.
    fn next_due(&self, end: i64) -> Option<(i64, Value)> {
        let due = |object: &Value| {
            let is_live = object["object"] == subscriptions::KIND && !has_ended(object);
            let at = match object["status"].as_str() {
                Some("incomplete") => object["created"].as_i64()? + FIRST_PAYMENT,
                _ => period_of(object).1,
            };
            (is_live && at <= end).then(|| (at, object.clone()))
        };
        let all = self.objects().iter().filter_map(due);
        all.min_by_key(|(at, _)| *at)
    }

    fn run_due(&mut self, mut subscription: Value) {
        if subscription["status"] == "incomplete" {
            self.expire(subscription);
            return;
        }
        let price = item_of(&subscription)["price"].clone();
        let cycle = cycle_of(&price).ok();
        let Some(cycle) = cycle.filter(|_| subscription["cancel_at_period_end"] != true) else {
            self.end_subscription(subscription, "cancellation_requested");
            return;
        };
        let (_, start) = period_of(&subscription);
        let anchor = subscription["billing_cycle_anchor"].as_i64();
        let end = next_boundary(cycle, anchor.unwrap_or(start), start);
        let item = &mut subscription["items"]["data"][0];
        item["current_period_start"] = json!(start);
        item["current_period_end"] = json!(end);
        let amount = amount_of(&price);
        if let Ok(begun) = self.begin_period(subscription.clone(), amount, "subscription_cycle") {
            self.emit("customer.subscription.updated", &begun);
        } else {
            // Its customer is gone.
            self.end_subscription(subscription, "cancellation_requested");
        }
    }

    /// The first payment was not made in time.
    fn expire(&mut self, mut subscription: Value) {
        let invoice = subscription["latest_invoice"].as_str().unwrap_or_default();
        let invoice = invoice.to_owned();
        subscription["status"] = json!("incomplete_expired");
        subscription["ended_at"] = json!(self.now());
        self.put(subscription.clone());
        self.emit("customer.subscription.updated", &subscription);
        // A person may have voided it before.
        if self.close_invoice(&invoice, true).is_err() {
            tracing::debug!(invoice, "The first invoice is closed already");
        }
    }

    /// Invoices the current period of a subscription, with the prorations that wait, and charges the invoice. Returns the
    /// subscription.
    pub(super) fn begin_period(
        &mut self,
        mut subscription: Value,
        amount: i64,
        reason: &str,
    ) -> Answer {
        let text = |name: &str| subscription[name].as_str().unwrap_or_default().to_owned();
        let (id, customer, currency) = (text("id"), text("customer"), text("currency"));
        let customer = self.existing("customer", &customer)?;
        let mut invoice = self.draft(&customer, &currency);
        invoice["billing_reason"] = json!(reason);
        invoice["automatic_tax"]["enabled"] = subscription["automatic_tax"]["enabled"].clone();
        invoice["parent"] = json!({
            "type": "subscription_details", "quote_details": null,
            "subscription_details": { "subscription": id, "metadata": subscription["metadata"] },
        });
        for mut pending in self.pending_of(&id) {
            pending["invoice"] = invoice["id"].clone();
            self.put(pending.clone());
            let line = self.pending_line(&subscription, &pending);
            self.add_line(&mut invoice, line, 0);
        }
        let period = period_of(&subscription);
        let mut line = self.line(amount, &currency, "1 × subscription", period);
        line["parent"] = parent_of(&subscription, &Value::Null);
        self.add_line(&mut invoice, line, 0);
        subscription["latest_invoice"] = invoice["id"].clone();
        self.put(subscription);
        self.emit("invoice.created", &invoice);
        let invoice = self.finalize(invoice);
        self.collect(&invoice)?;
        self.existing(subscriptions::KIND, &id)
    }

    /// The next invoice of a subscription, if nothing changes: its price, and the prorations that wait.
    pub(super) fn preview_invoice(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let id = params.required("subscription")?;
        params.finish()?;
        let subscription = self.referenced(subscriptions::KIND, "subscription", &id)?;
        if has_ended(&subscription) || subscription["cancel_at_period_end"] == true {
            return Err(Refusal {
                code: Some("invoice_upcoming_none".into()),
                ..Refusal::invalid("No upcoming invoices for customer.")
            });
        }
        let text = |name: &str| subscription[name].as_str().unwrap_or_default().to_owned();
        let customer = self.existing("customer", &text("customer"))?;
        let waiting = self.pending_of(&id);
        let waiting = waiting.iter().filter_map(|item| item["amount"].as_i64());
        let amount = amount_of(&item_of(&subscription)["price"]) + waiting.sum::<i64>();
        let mut invoice = self.draft(&customer, &text("currency"));
        invoice["id"] = json!(format!("upcoming_in_{id}"));
        invoice["created"] = json!(period_of(&subscription).1);
        for field in [
            "subtotal",
            "subtotal_excluding_tax",
            "total_excluding_tax",
            "total",
            "amount_due",
            "amount_remaining",
        ] {
            invoice[field] = json!(amount);
        }
        Ok(invoice)
    }

    /// Adds a proration that the next invoice contains.
    pub(super) fn add_pending(
        &mut self,
        subscription: &Value,
        amount: i64,
        description: &str,
        period: (i64, i64),
    ) {
        let item = json!({
            "id": self.new_id("ii"), "object": ITEM, "amount": amount, "currency": subscription["currency"],
            "customer": subscription["customer"], "description": description, "invoice": null, "livemode": false,
            "metadata": {}, "period": { "start": period.0, "end": period.1 }, "proration": true,
            "subscription": subscription["id"],
        });
        self.put(item);
    }

    fn pending_of(&self, subscription: &str) -> Vec<Value> {
        let is_pending = |object: &&Value| {
            object["object"] == ITEM
                && object["subscription"] == subscription
                && object["invoice"].is_null()
        };
        self.objects().iter().filter(is_pending).cloned().collect()
    }

    fn pending_line(&mut self, subscription: &Value, pending: &Value) -> Value {
        let bound = |name: &str| pending["period"][name].as_i64().unwrap_or_default();
        let text = |name: &str| pending[name].as_str().unwrap_or_default();
        let amount = pending["amount"].as_i64().unwrap_or_default();
        let period = (bound("start"), bound("end"));
        let mut line = self.line(amount, text("currency"), text("description"), period);
        line["parent"] = parent_of(subscription, &pending["id"]);
        line
    }

    /// Charges an issued invoice to the card.
    fn collect(&mut self, invoice: &Value) -> Result<(), Refusal> {
        let id = invoice["id"].as_str().unwrap_or_default().to_owned();
        if invoice["amount_remaining"].as_i64().unwrap_or_default() <= 0 {
            self.paid(invoice.clone());
            return Ok(());
        }
        match self.card_behaviour(invoice) {
            Some(CardBehaviour::Accepted) => {
                self.pay(&id)?;
            }
            Some(CardBehaviour::NeedsAuthentication) => {
                self.leave_open(
                    invoice,
                    "requires_action",
                    "invoice.payment_action_required",
                );
            }
            _ => self.leave_open(invoice, "requires_payment_method", "invoice.payment_failed"),
        }
        Ok(())
    }

    fn card_behaviour(&self, invoice: &Value) -> Option<CardBehaviour> {
        self.find(self.card_of(invoice)?).map(behaviour_of)
    }

    /// Id of the card that an invoice is charged to: the subscription's own, else the customer's default.
    pub(super) fn card_of(&self, invoice: &Value) -> Option<&str> {
        let customer = self.find(invoice["customer"].as_str()?)?;
        let own = subscription_of(invoice)
            .and_then(|id| self.find(id))
            .and_then(|subscription| subscription["default_payment_method"].as_str());
        own.or_else(|| customer["invoice_settings"]["default_payment_method"].as_str())
    }

    /// The payment of an invoice is not made yet, and neither is its subscription in order.
    fn leave_open(&mut self, invoice: &Value, status: &str, event: &str) {
        let (intent, now) = (self.new_id("pi"), self.now());
        let amount = &invoice["amount_remaining"];
        self.put(json!({
            "id": intent, "object": "payment_intent", "amount": amount, "created": now,
            "currency": invoice["currency"], "customer": invoice["customer"], "latest_charge": null,
            "livemode": false, "metadata": {}, "status": status,
        }));
        let payment = json!({
            "id": self.new_id("inpay"), "object": "invoice_payment", "amount_paid": null,
            "amount_requested": amount, "created": now, "currency": invoice["currency"],
            "invoice": invoice["id"], "is_default": true, "livemode": false,
            "payment": { "type": "payment_intent", "payment_intent": intent }, "status": "open",
            "status_transitions": { "canceled_at": null, "paid_at": null },
        });
        self.put(payment);
        self.emit(event, invoice);
        let id = subscription_of(invoice).unwrap_or_default();
        if let Ok(mut subscription) = self.existing(subscriptions::KIND, id) {
            let is_first = invoice["billing_reason"] == "subscription_create";
            subscription["status"] = json!(if is_first { "incomplete" } else { "past_due" });
            self.put(subscription.clone());
            self.emit("customer.subscription.updated", &subscription);
        }
    }

    /// Drops the payment of an invoice that was not made.
    pub(super) fn drop_open_payment(&mut self, invoice: &str) {
        let is_open = |object: &&Value| {
            object["object"] == "invoice_payment"
                && object["invoice"] == invoice
                && object["status"] == "open"
        };
        let open = self.objects().iter().find(is_open);
        let open = open.and_then(|payment| payment["id"].as_str());
        if let Some(id) = open.map(str::to_owned) {
            self.remove(&id);
        }
    }

    /// The subscription of a paid invoice is in order again, unless another of its invoices is open.
    pub(super) fn settle_subscription(&mut self, invoice: &Value) {
        let id = subscription_of(invoice).unwrap_or_default();
        let Ok(mut subscription) = self.existing(subscriptions::KIND, id) else {
            return;
        };
        let is_unpaid = |object: &Value| {
            object["object"] == "invoice"
                && object["status"] == "open"
                && subscription_of(object) == Some(id)
        };
        let is_behind =
            subscription["status"] == "incomplete" || subscription["status"] == "past_due";
        if is_behind && !self.objects().iter().any(is_unpaid) {
            subscription["status"] = json!("active");
            self.put(subscription.clone());
            self.emit("customer.subscription.updated", &subscription);
        }
    }
}

/// Id of the subscription that an invoice is of.
fn subscription_of(invoice: &Value) -> Option<&str> {
    let details = &invoice["parent"]["subscription_details"];
    details["subscription"].as_str()
}

/// Origin of a line: the item itself, or a proration of it.
fn parent_of(subscription: &Value, invoice_item: &Value) -> Value {
    json!({
        "type": "subscription_item_details", "invoice_item_details": null,
        "subscription_item_details": {
            "invoice_item": invoice_item, "proration": !invoice_item.is_null(), "proration_details": null,
            "subscription": subscription["id"], "subscription_item": item_of(subscription)["id"],
        },
    })
}
