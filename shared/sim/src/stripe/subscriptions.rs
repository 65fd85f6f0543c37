//! Subscriptions of one item with the quantity 1, charged to a card: created, changed with prorations, and cancelled.

use dezky_shared::billing::Cycle;
use serde_json::{Value, json};

use super::{
    catalog::PRICE,
    idempotency::Answer,
    params::Params,
    refusal::Refusal,
    state::{State, merged},
};

pub(super) const KIND: &str = "subscription";
/// Statuses that never change again.
const ENDED: [&str; 2] = ["canceled", "incomplete_expired"];

/// Whether a subscription has ended.
pub(super) fn has_ended(subscription: &Value) -> bool {
    subscription["status"]
        .as_str()
        .is_some_and(|status| ENDED.contains(&status))
}

/// The item of a subscription.
pub(super) fn item_of(subscription: &Value) -> &Value {
    &subscription["items"]["data"][0]
}

/// First second of the current period, and the first one after it.
pub(super) fn period_of(subscription: &Value) -> (i64, i64) {
    let item = item_of(subscription);
    let seconds = |name: &str| item[name].as_i64().unwrap_or_default();
    (
        seconds("current_period_start"),
        seconds("current_period_end"),
    )
}

/// Cycle of a price.
pub(super) fn cycle_of(price: &Value) -> Result<Cycle, Refusal> {
    let recurring = &price["recurring"];
    let interval = recurring["interval"].as_str().unwrap_or_default();
    match (interval, recurring["interval_count"].as_i64()) {
        ("month", Some(1)) => Ok(Cycle::Monthly),
        ("month", Some(3)) => Ok(Cycle::Quarterly),
        ("month", Some(12)) | ("year", Some(1)) => Ok(Cycle::Yearly),
        _ => Err(Refusal::invalid("This interval is not simulated.")),
    }
}

impl State {
    pub(super) fn create_subscription(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.required("customer")?;
        let mut customer = self.referenced("customer", "customer", &customer)?;
        let (price, _) = self.only_item(params)?;
        let price = price.ok_or_else(|| Refusal::param("parameter_missing", "items", "Missing"))?;
        expect(params, "collection_method", "charge_automatically")?;
        expect(params, "payment_behavior", "allow_incomplete")?;
        let proration = params.filled("proration_behavior")?;
        let anchor = params.integer("billing_cycle_anchor")?;
        let tax = params.object("automatic_tax", &["enabled"])?;
        let is_taxed = tax.is_some_and(|tax| tax.get("enabled") == Some(&json!("true")));
        let mode = params.object("billing_mode", &["type"])?;
        let mode = mode.and_then(|mode| mode.get("type").cloned());
        if customer["invoice_settings"]["default_payment_method"].is_null() {
            // The real API answers so, too, although no id is missing.
            let message = "This customer has no attached payment source or default payment method.";
            return Err(Refusal {
                code: Some("resource_missing".into()),
                ..Refusal::invalid(message)
            });
        }
        let currency = price["currency"].clone();
        if !customer["currency"].is_null() && customer["currency"] != currency {
            let message = "You cannot combine currencies on a single customer.";
            return Err(Refusal::invalid(message));
        }
        let (now, cycle) = (self.now(), cycle_of(&price)?);
        let end = match anchor {
            None => next_boundary(cycle, now, now),
            Some(anchor) if (now + 1..=next_boundary(cycle, now, now)).contains(&anchor) => anchor,
            Some(_) => {
                let message = "The anchor is in the past, or after the end of the first period.";
                let param = "billing_cycle_anchor";
                return Err(Refusal::param("parameter_invalid_integer", param, message));
            }
        };
        if anchor.is_some() && proration.as_deref() != Some("none") {
            return Err(Refusal::invalid("A prorated stub is not simulated."));
        }
        let start = self.backdated_start(params, anchor)?;
        let mut subscription = self.new_subscription(&customer, &price, (now, end), anchor);
        subscription["automatic_tax"]["enabled"] = json!(is_taxed);
        // The prorations of both modes are simulated as those of the classic one.
        subscription["billing_mode"]["type"] = mode.unwrap_or_else(|| json!("flexible"));
        params.merge_metadata(&mut subscription)?;
        params.finish()?;
        if let Some(start) = start {
            subscription["start_date"] = json!(start);
            let whole = next_boundary(cycle, start, start) - start;
            let amount = prorated(amount_of(&price), now - start, whole);
            self.add_pending(&subscription, amount, "Time before", (start, now));
        }
        customer["currency"] = currency;
        self.put(customer);
        self.put(subscription.clone());
        self.emit("customer.subscription.created", &subscription);
        let amount = if anchor.is_some() {
            0
        } else {
            amount_of(&price)
        };
        self.begin_period(subscription, amount, "subscription_create")
    }

    /// Start of the time before now that the first invoice charges, too. Stripe counts a whole period from there.
    fn backdated_start(
        &self,
        params: &mut Params,
        anchor: Option<i64>,
    ) -> Result<Option<i64>, Refusal> {
        const PARAM: &str = "backdate_start_date";
        let start = params.integer(PARAM)?;
        if start.is_some() && anchor.is_some() {
            return Err(Refusal::invalid("A backdated stub is not simulated."));
        }
        if start.is_some_and(|start| start >= self.now()) {
            let message = "The start date is not in the past.";
            return Err(Refusal::param("parameter_invalid_integer", PARAM, message));
        }
        Ok(start)
    }

    fn new_subscription(
        &mut self,
        customer: &Value,
        price: &Value,
        period: (i64, i64),
        anchor: Option<i64>,
    ) -> Value {
        let (id, item, now) = (self.new_id("sub"), self.new_id("si"), self.now());
        let terms = json!({
            "id": id, "object": KIND, "application": null, "application_fee_percent": null,
            "automatic_tax": { "disabled_reason": null, "enabled": false, "liability": null },
            "billing_cycle_anchor": anchor.unwrap_or(now), "billing_cycle_anchor_config": null,
            "billing_mode": { "type": "classic" }, "billing_schedules": [], "billing_thresholds": null,
            "cancel_at": null, "cancel_at_period_end": false, "canceled_at": null,
            "cancellation_details": { "comment": null, "feedback": null, "reason": null },
            "collection_method": "charge_automatically", "created": now, "currency": price["currency"],
            "customer": customer["id"], "customer_account": null, "days_until_due": null,
            "default_payment_method": null, "default_source": null, "default_tax_rates": [],
        });
        let state = json!({
            "description": null, "discounts": [], "ended_at": null,
            "invoice_settings": { "account_tax_ids": null, "issuer": { "type": "self" } },
            "items": {
                "object": "list", "data": [], "has_more": false,
                "url": format!("/v1/subscription_items?subscription={id}"),
            },
            "latest_invoice": null, "livemode": false, "managed_payments": null, "metadata": {},
            "next_pending_invoice_item_invoice": null, "on_behalf_of": null, "pause_collection": null,
            "payment_settings": {
                "payment_method_options": null, "payment_method_types": null, "save_default_payment_method": "off",
            },
            "pending_invoice_item_interval": null, "pending_setup_intent": null, "pending_update": null,
            "schedule": null, "start_date": now, "status": "active", "test_clock": null, "transfer_data": null,
            "trial_end": null, "trial_settings": { "end_behavior": { "missing_payment_method": "create_invoice" } },
            "trial_start": null,
        });
        let mut subscription = merged([terms, state]);
        subscription["items"]["data"] = json!([{
            "id": item, "object": "subscription_item", "billing_thresholds": null, "created": now,
            "current_period_end": period.1, "current_period_start": period.0, "discounts": [], "metadata": {},
            "plan": plan_of(price), "price": price, "quantity": 1, "subscription": subscription["id"], "tax_rates": [],
        }]);
        subscription
    }

    pub(super) fn update_subscription(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let subscription = self.existing(KIND, ids[0])?;
        if has_ended(&subscription) {
            let message = "A canceled subscription can only update its metadata.";
            return Err(Refusal::invalid(message));
        }
        let proration = params.filled("proration_behavior")?;
        if proration.is_some_and(|behavior| behavior != "create_prorations") {
            return Err(Refusal::invalid("This proration is not simulated."));
        }
        let mut after = subscription.clone();
        if let Some(ends) = params.filled("cancel_at_period_end")? {
            let ends = ends == "true";
            after["cancel_at_period_end"] = json!(ends);
            after["cancel_at"] = json!(ends.then(|| period_of(&subscription).1));
            after["canceled_at"] = json!(ends.then(|| self.now()));
        }
        if let Some(method) = params.text("default_payment_method")? {
            if let Some(id) = method.as_str() {
                self.referenced("payment_method", "default_payment_method", id)?;
            }
            after["default_payment_method"] = method;
        }
        params.merge_metadata(&mut after)?;
        let price = self.changed_price(&subscription, params)?;
        params.finish()?;
        if price.is_some() && subscription["status"] == "incomplete" {
            let message = "An incomplete subscription takes no other price.";
            return Err(Refusal::invalid(message));
        }
        self.put(after.clone());
        if let Some(price) = price {
            after = self.change_price(after, &price)?;
        }
        self.emit("customer.subscription.updated", &after);
        Ok(after)
    }

    /// The price that a request gives the item, if it is another one.
    fn changed_price(
        &self,
        subscription: &Value,
        params: &mut Params,
    ) -> Result<Option<Value>, Refusal> {
        let (price, item) = self.only_item(params)?;
        let Some(price) = price else {
            return Ok(None);
        };
        let known = item_of(subscription);
        // Without its id, the item would be added as a second one.
        if item.is_none_or(|item| known["id"] != *item) {
            return Err(Refusal::invalid("A second item is not simulated."));
        }
        if price["currency"] != subscription["currency"] {
            let message = "The currency of a subscription cannot change.";
            return Err(Refusal::invalid(message));
        }
        Ok((price["id"] != known["price"]["id"]).then_some(price))
    }

    /// Changes the price now. Within an interval, the rest of the period is prorated on the next invoice; with another one,
    /// a new period starts and is invoiced.
    fn change_price(&mut self, mut subscription: Value, price: &Value) -> Answer {
        let before = item_of(&subscription)["price"].clone();
        let ((start, end), now) = (period_of(&subscription), self.now());
        let (was, is) = (cycle_of(&before)?, cycle_of(price)?);
        let rest = |price: &Value| prorated(amount_of(price), end - now, end - start);
        let credit = -rest(&before);
        let item = &mut subscription["items"]["data"][0];
        item["price"] = price.clone();
        item["plan"] = plan_of(price);
        if was == is {
            for (amount, what) in [(credit, "Unused time"), (rest(price), "Remaining time")] {
                self.add_pending(&subscription, amount, what, (now, end));
            }
            self.put(subscription.clone());
            return Ok(subscription);
        }
        item["current_period_start"] = json!(now);
        item["current_period_end"] = json!(next_boundary(is, now, now));
        subscription["billing_cycle_anchor"] = json!(now);
        self.add_pending(&subscription, credit, "Unused time", (now, end));
        self.begin_period(subscription, amount_of(price), "subscription_update")
    }

    pub(super) fn cancel_subscription(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        for name in ["invoice_now", "prorate"] {
            if params.filled(name)?.is_some_and(|value| value != "false") {
                return Err(Refusal::invalid("A credit at the end is not simulated."));
            }
        }
        params.finish()?;
        let subscription = self.existing(KIND, ids[0])?;
        if has_ended(&subscription) {
            return Err(Refusal::missing(ids[0]));
        }
        Ok(self.end_subscription(subscription, "cancellation_requested"))
    }

    /// Ends a subscription now.
    pub(super) fn end_subscription(&mut self, mut subscription: Value, reason: &str) -> Value {
        let now = self.now();
        subscription["status"] = json!("canceled");
        subscription["ended_at"] = json!(now);
        if subscription["canceled_at"].is_null() {
            subscription["canceled_at"] = json!(now);
        }
        subscription["cancellation_details"]["reason"] = json!(reason);
        self.put(subscription.clone());
        self.emit("customer.subscription.deleted", &subscription);
        subscription
    }

    pub(super) fn retrieve_subscription(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing(KIND, ids[0])
    }

    pub(super) fn list_subscriptions(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.filled("customer")?;
        let status = params.filled("status")?;
        self.page("/v1/subscriptions", params, |object| {
            object["object"] == KIND
                && customer
                    .as_ref()
                    .is_none_or(|it| object["customer"] == **it)
                && match status.as_deref() {
                    Some("all") => true,
                    Some(status) => object["status"] == status,
                    // Those that were canceled are left out by default.
                    None => object["status"] != "canceled",
                }
        })
    }

    /// Price and id of the only item of a request.
    fn only_item(&self, params: &mut Params) -> Result<(Option<Value>, Option<String>), Refusal> {
        let mut items = params.nested("items")?;
        let Some(mut item) = items.pop() else {
            return Ok((None, None));
        };
        if !items.is_empty() {
            return Err(Refusal::invalid("Several items are not simulated."));
        }
        let price = item.required("price")?;
        let price = self.referenced(PRICE, "items[0][price]", &price)?;
        let id = item.filled("id")?;
        if item.integer("quantity")?.is_some_and(|count| count != 1) {
            return Err(Refusal::invalid("Quantities are not simulated."));
        }
        item.finish()?;
        Ok((Some(price), id))
    }
}

/// First boundary after `after`, of periods that are counted from `anchor`, in seconds.
pub(super) fn next_boundary(cycle: Cycle, anchor: i64, after: i64) -> i64 {
    let time = |seconds: i64| bson::DateTime::from_millis(seconds * 1_000);
    let next = cycle.renewal(time(anchor), time(after));
    next.map_or(i64::MAX, |next| next.timestamp_millis() / 1_000)
}

/// Amount of a price.
pub(super) fn amount_of(price: &Value) -> i64 {
    price["unit_amount"].as_i64().unwrap_or_default()
}

/// The part of an amount for some seconds of a period, rounded half up.
fn prorated(amount: i64, seconds: i64, of: i64) -> i64 {
    let of = i128::from(of.max(1));
    let part = i128::from(amount) * i128::from(seconds) * 2 + of;
    i64::try_from(part.div_euclid(of * 2)).unwrap_or_default()
}

/// The price in its older form, which subscription items still have.
fn plan_of(price: &Value) -> Value {
    json!({
        "id": price["id"], "object": "plan", "active": price["active"], "amount": price["unit_amount"],
        "amount_decimal": price["unit_amount_decimal"], "billing_scheme": "per_unit", "created": price["created"],
        "currency": price["currency"], "interval": price["recurring"]["interval"],
        "interval_count": price["recurring"]["interval_count"], "livemode": false, "metadata": {}, "meter": null,
        "nickname": null, "product": price["product"], "tiers_mode": null, "transform_usage": null,
        "trial_period_days": null, "usage_type": "licensed",
    })
}

/// Takes a parameter that may have this value only.
fn expect(params: &mut Params, name: &str, value: &str) -> Result<(), Refusal> {
    match params.filled(name)? {
        Some(given) if given != value => Err(Refusal::param(
            "parameter_invalid_string",
            name,
            "Not simulated.",
        )),
        _ => Ok(()),
    }
}
