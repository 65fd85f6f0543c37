//! Invoices: issued as Stripe does for its subscriptions or created by requests, paid by one payment, voided or given up.

use serde_json::{Value, json};

use super::{
    idempotency::Answer,
    params::Params,
    refusal::Refusal,
    state::{State, merged},
};

pub(super) const KIND: &str = "invoice";

/// Invoice with one line, as Stripe issues it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BilledInvoice {
    /// Customer.
    pub customer: String,
    /// Currency, lower case.
    pub currency: String,
    /// Amount without taxes.
    pub net: i64,
    /// Taxes.
    pub tax: i64,
    /// Subscription.
    pub subscription: Option<String>,
    /// Period of the line, in seconds.
    pub period: (i64, i64),
    /// Whether the line is a part of a period, after a change.
    pub proration: bool,
}

impl State {
    /// Issues an invoice, which is then open.
    pub(super) fn bill(&mut self, billed: &BilledInvoice) -> Answer {
        let customer = self.existing("customer", &billed.customer)?;
        let mut invoice = self.draft(&customer, &billed.currency);
        if let Some(subscription) = &billed.subscription {
            invoice["parent"] = json!({
                "type": "subscription_details", "quote_details": null,
                "subscription_details": { "subscription": subscription, "metadata": {} },
            });
        }
        let line = self.billed_line(billed);
        self.add_line(&mut invoice, line, billed.tax);
        self.emit("invoice.created", &invoice);
        Ok(self.finalize(invoice))
    }

    /// A draft without lines.
    pub(super) fn draft(&mut self, customer: &Value, currency: &str) -> Value {
        let (id, now) = (self.new_id("in"), self.now());
        let issuer = json!({
            "id": id, "object": KIND, "account_country": "DK", "account_name": null, "account_tax_ids": null,
            "amount_due": 0, "amount_overpaid": 0, "amount_paid": 0, "amount_remaining": 0,
            "amount_shipping": 0, "application": null, "attempt_count": 0, "attempted": false, "auto_advance": true,
            "automatic_tax": {
                "disabled_reason": null, "enabled": false, "liability": null, "provider": null, "status": null,
            },
            "automatically_finalizes_at": null, "billing_reason": "subscription_cycle",
            "collection_method": "charge_automatically", "created": now, "currency": currency,
        });
        let recipient = json!({
            "custom_fields": null, "customer": customer["id"], "customer_account": null,
            "customer_address": customer["address"], "customer_email": customer["email"],
            "customer_name": customer["name"], "customer_phone": null, "customer_shipping": null,
            "customer_tax_exempt": "none", "customer_tax_ids": [], "default_payment_method": null,
            "default_source": null, "default_tax_rates": [], "description": null, "discounts": [], "due_date": null,
            "effective_at": null, "ending_balance": null, "footer": null, "from_invoice": null,
        });
        let document = json!({
            "hosted_invoice_url": null, "invoice_pdf": null, "issuer": { "type": "self" },
            "last_finalization_error": null, "latest_revision": null,
            "lines": {
                "object": "list", "data": [], "has_more": false, "url": format!("/v1/invoices/{id}/lines"),
            },
            "livemode": false, "metadata": {}, "next_payment_attempt": null, "number": null,
            "on_behalf_of": null, "parent": null,
            "payment_settings": {
                "default_mandate": null, "payment_method_options": null, "payment_method_types": null,
            },
        });
        let amounts = json!({
            "period_end": now, "period_start": now, "post_payment_credit_notes_amount": 0,
            "pre_payment_credit_notes_amount": 0, "receipt_number": null, "rendering": null, "shipping_cost": null,
            "shipping_details": null, "starting_balance": 0, "statement_descriptor": null, "status": "draft",
            "status_transitions": {
                "finalized_at": null, "marked_uncollectible_at": null, "paid_at": null, "voided_at": null,
            },
            "subscription": null, "subtotal": 0, "subtotal_excluding_tax": 0, "test_clock": null,
            "total": 0, "total_discount_amounts": [], "total_excluding_tax": 0,
            "total_pretax_credit_amounts": [], "total_taxes": [], "webhooks_delivered_at": now,
        });
        merged([issuer, recipient, document, amounts])
    }

    /// Adds a line to a draft.
    pub(super) fn add_line(&mut self, invoice: &mut Value, mut line: Value, tax: i64) {
        line["invoice"] = invoice["id"].clone();
        let amount = line["amount"].as_i64().unwrap_or_default();
        if let Some(lines) = invoice["lines"]["data"].as_array_mut() {
            lines.push(line);
        }
        for (field, by) in [
            ("subtotal", amount),
            ("subtotal_excluding_tax", amount),
            ("total_excluding_tax", amount),
            ("total", amount + tax),
            ("amount_due", amount + tax),
            ("amount_remaining", amount + tax),
        ] {
            invoice[field] = json!(invoice[field].as_i64().unwrap_or_default() + by);
        }
        self.put(invoice.clone());
    }

    /// Issues a draft.
    pub(super) fn finalize(&mut self, mut invoice: Value) -> Value {
        let (now, id) = (self.now(), invoice["id"].clone());
        let id = id.as_str().unwrap_or_default();
        let customer = invoice["customer"].as_str().unwrap_or_default().to_owned();
        if let Ok(mut customer) = self.existing("customer", &customer) {
            let sequence = customer["next_invoice_sequence"].as_i64().unwrap_or(1);
            let prefix = customer["invoice_prefix"].as_str().unwrap_or_default();
            invoice["number"] = json!(format!("{prefix}-{sequence:04}"));
            customer["next_invoice_sequence"] = json!(sequence + 1);
            self.put(customer);
        }
        invoice["status"] = json!("open");
        invoice["effective_at"] = json!(now);
        invoice["status_transitions"]["finalized_at"] = json!(now);
        invoice["hosted_invoice_url"] = json!(format!("https://invoice.stripe.com/i/{id}"));
        invoice["invoice_pdf"] = json!(format!("https://pay.stripe.com/invoice/{id}/pdf"));
        self.put(invoice.clone());
        self.emit("invoice.finalized", &invoice);
        invoice
    }

    fn billed_line(&mut self, billed: &BilledInvoice) -> Value {
        let mut line = self.line(
            billed.net,
            &billed.currency,
            "Business, monthly",
            billed.period,
        );
        if let Some(subscription) = &billed.subscription {
            line["parent"] = json!({
                "type": "subscription_item_details", "invoice_item_details": null,
                "subscription_item_details": {
                    "invoice_item": null, "proration": billed.proration, "proration_details": null,
                    "subscription": subscription, "subscription_item": "si_sim",
                },
            });
        }
        line
    }

    pub(super) fn line(
        &mut self,
        amount: i64,
        currency: &str,
        description: &str,
        period: (i64, i64),
    ) -> Value {
        json!({
            "id": self.new_id("il"), "object": "line_item", "amount": amount, "currency": currency,
            "description": description, "discount_amounts": [], "discountable": true, "discounts": [],
            "invoice": null, "livemode": false, "metadata": {}, "parent": null,
            "period": { "start": period.0, "end": period.1 }, "pretax_credit_amounts": [], "pricing": null,
            "quantity": 1, "quantity_decimal": "1", "subscription": null, "subtotal": amount, "taxes": [],
        })
    }

    pub(super) fn create_invoice(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.required("customer")?;
        let customer = self.referenced("customer", "customer", &customer)?;
        let currency = params.required("currency")?;
        let mut invoice = self.draft(&customer, &currency);
        for field in ["collection_method", "pending_invoice_items_behavior"] {
            let value = params.required(field)?;
            if !["send_invoice", "exclude"].contains(&value.as_str()) {
                return Err(Refusal::param(
                    "parameter_invalid_string",
                    field,
                    "Not simulated.",
                ));
            }
        }
        let days = params.integer("days_until_due")?.unwrap_or_default();
        invoice["collection_method"] = json!("send_invoice");
        invoice["billing_reason"] = json!("manual");
        invoice["due_date"] = json!(self.now() + days * 24 * 60 * 60);
        invoice["auto_advance"] = json!(params.filled("auto_advance")?.as_deref() == Some("true"));
        let tax = params.object("automatic_tax", &["enabled"])?;
        let is_taxed = tax.is_some_and(|tax| tax.get("enabled") == Some(&json!("true")));
        invoice["automatic_tax"]["enabled"] = json!(is_taxed);
        params.merge_metadata(&mut invoice)?;
        params.finish()?;
        self.put(invoice.clone());
        self.emit("invoice.created", &invoice);
        Ok(invoice)
    }

    pub(super) fn create_invoice_item(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.required("customer")?;
        self.referenced("customer", "customer", &customer)?;
        let invoice = params.required("invoice")?;
        let mut invoice = self.referenced(KIND, "invoice", &invoice)?;
        let amount = params.integer("amount")?.unwrap_or_default();
        let currency = params.required("currency")?;
        let description = params.filled("description")?.unwrap_or_default();
        params.filled("tax_behavior")?;
        let period = params
            .object("period", &["start", "end"])?
            .unwrap_or_default();
        params.finish()?;
        if invoice["status"] != "draft" || invoice["currency"] != *currency {
            return Err(Refusal::unexpected_state("invoice_not_editable"));
        }
        let bound = |name: &str| period.get(name)?.as_str()?.parse().ok();
        let now = self.now();
        let period = (bound("start").unwrap_or(now), bound("end").unwrap_or(now));
        let line = self.line(amount, &currency, &description, period);
        self.add_line(&mut invoice, line, 0);
        Ok(json!({
            "id": self.new_id("ii"), "object": "invoiceitem", "amount": amount, "currency": currency,
            "customer": customer, "invoice": invoice["id"], "livemode": false, "metadata": {},
        }))
    }

    pub(super) fn finalize_invoice(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let advances = params.filled("auto_advance")?.as_deref() == Some("true");
        params.finish()?;
        let mut invoice = self.existing(KIND, ids[0])?;
        if invoice["status"] != "draft" {
            return Err(Refusal::unexpected_state("invoice_not_editable"));
        }
        invoice["auto_advance"] = json!(advances);
        Ok(self.finalize(invoice))
    }

    pub(super) fn send_invoice(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        let invoice = self.unpaid(ids[0])?;
        self.emit("invoice.sent", &invoice);
        Ok(invoice)
    }

    pub(super) fn void_invoice(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.close_invoice(ids[0], true)
    }

    pub(super) fn pay_invoice(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let is_elsewhere = params.filled("paid_out_of_band")?.as_deref() == Some("true");
        params.finish()?;
        if is_elsewhere {
            let invoice = self.unpaid(ids[0])?;
            return Ok(self.paid(invoice));
        }
        self.pay(ids[0])
    }

    pub(super) fn delete_invoice(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        let invoice = self.existing(KIND, ids[0])?;
        if invoice["status"] != "draft" {
            return Err(Refusal::unexpected_state("invoice_not_editable"));
        }
        self.remove(ids[0]);
        self.emit("invoice.deleted", &invoice);
        Ok(json!({ "id": ids[0], "object": KIND, "deleted": true }))
    }

    pub(super) fn list_invoices(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.filled("customer")?;
        self.page("/v1/invoices", params, |object| {
            object["object"] == KIND
                && customer
                    .as_ref()
                    .is_none_or(|it| object["customer"] == **it)
        })
    }

    pub(super) fn retrieve_invoice(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing(KIND, ids[0])
    }

    pub(super) fn list_invoice_lines(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let limit = params.integer("limit")?.unwrap_or(10);
        params.finish()?;
        let invoice = self.existing(KIND, ids[0])?;
        let lines = invoice["lines"]["data"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let limit = usize::try_from(limit).unwrap_or_default();
        let url = &invoice["lines"]["url"];
        let has_more = lines.len() > limit;
        let lines: Vec<Value> = lines.into_iter().take(limit).collect();
        Ok(json!({ "object": "list", "data": lines, "has_more": has_more, "url": url }))
    }

    pub(super) fn list_invoice_payments(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let invoice = params.filled("invoice")?;
        let payment = params.object("payment", &["type", "payment_intent"])?;
        let intent = payment.and_then(|payment| payment.get("payment_intent").cloned());
        self.page("/v1/invoice_payments", params, |object| {
            object["object"] == "invoice_payment"
                && invoice.as_ref().is_none_or(|it| object["invoice"] == **it)
                && intent
                    .as_ref()
                    .is_none_or(|it| object["payment"]["payment_intent"] == *it)
        })
    }

    pub(super) fn retrieve_payment_intent(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing("payment_intent", ids[0])
    }

    /// Pays an invoice by one payment.
    pub(super) fn pay(&mut self, id: &str) -> Answer {
        let invoice = self.unpaid(id)?;
        self.drop_open_payment(id);
        let now = self.now();
        let amount = invoice["amount_remaining"].clone();
        let card = self.card_of(&invoice).map(str::to_owned);
        let (customer, currency) = (invoice["customer"].clone(), invoice["currency"].clone());
        let (intent_id, charge_id) = (self.new_id("pi"), self.new_id("ch"));
        let intent = json!({
            "id": intent_id, "object": "payment_intent", "amount": amount, "created": now, "currency": currency,
            "customer": customer, "latest_charge": charge_id, "livemode": false, "metadata": {},
            "status": "succeeded",
        });
        let charge = json!({
            "id": charge_id, "object": "charge", "amount": amount, "amount_refunded": 0, "created": now,
            "currency": currency, "customer": customer, "disputed": false, "livemode": false, "metadata": {},
            "paid": true, "payment_intent": intent_id, "payment_method": card, "refunded": false,
            "status": "succeeded",
        });
        let payment = json!({
            "id": self.new_id("inpay"), "object": "invoice_payment", "amount_paid": amount,
            "amount_requested": amount, "created": now, "currency": currency, "invoice": id, "is_default": true,
            "livemode": false, "payment": { "type": "payment_intent", "payment_intent": intent_id },
            "status": "paid", "status_transitions": { "canceled_at": null, "paid_at": now },
        });
        let changes = [
            ("payment_intent.succeeded", intent),
            ("charge.succeeded", charge),
            ("invoice_payment.paid", payment),
        ];
        for (event, object) in changes {
            self.put(object.clone());
            self.emit(event, &object);
        }
        Ok(self.paid(invoice))
    }

    pub(super) fn paid(&mut self, mut invoice: Value) -> Value {
        invoice["amount_paid"] = invoice["amount_remaining"].clone();
        invoice["amount_remaining"] = json!(0);
        invoice["status"] = json!("paid");
        invoice["status_transitions"]["paid_at"] = json!(self.now());
        self.put(invoice.clone());
        self.emit("invoice.paid", &invoice);
        self.settle_subscription(&invoice);
        invoice
    }

    /// Voids an invoice that is not paid, or gives it up.
    pub(super) fn close_invoice(&mut self, id: &str, is_voided: bool) -> Answer {
        let mut invoice = self.unpaid(id)?;
        let (status, at, event) = if is_voided {
            ("void", "voided_at", "invoice.voided")
        } else {
            (
                "uncollectible",
                "marked_uncollectible_at",
                "invoice.marked_uncollectible",
            )
        };
        invoice["status"] = json!(status);
        invoice["status_transitions"][at] = json!(self.now());
        self.put(invoice.clone());
        self.emit(event, &invoice);
        Ok(invoice)
    }

    fn unpaid(&self, id: &str) -> Answer {
        let invoice = self.existing(KIND, id)?;
        if invoice["status"] == "open" || invoice["status"] == "uncollectible" {
            return Ok(invoice);
        }
        Err(Refusal::unexpected_state("invoice_not_editable"))
    }

    /// Id of the payment of a paid invoice.
    pub(super) fn payment_of(&self, invoice: &str) -> Result<Value, Refusal> {
        let is_payment =
            |object: &&Value| object["object"] == "invoice_payment" && object["invoice"] == invoice;
        let payment = self.objects().iter().find(is_payment);
        let payment = payment.ok_or_else(|| Refusal::missing_param("payment_intent", invoice))?;
        Ok(payment["payment"]["payment_intent"].clone())
    }
}
