//! Credit notes, refunds and disputes, as a person makes them in the dashboard or at the bank.

use serde_json::{Value, json};

use super::{
    idempotency::Answer,
    invoices,
    params::Params,
    state::{State, merged},
};

impl State {
    /// Refunds a part of a paid invoice.
    pub(super) fn refund(&mut self, invoice: &str, amount: i64) -> Answer {
        let intent = self.payment_of(invoice)?;
        let charge = self.charge_of(&intent);
        let refund = json!({
            "id": self.new_id("re"), "object": "refund", "amount": amount, "balance_transaction": null,
            "charge": charge["id"], "created": self.now(), "currency": charge["currency"],
            "customer": charge["customer"], "customer_account": null,
            "destination_details": { "type": "card" }, "metadata": {}, "payment_intent": intent,
            "payment_method": null, "reason": null, "receipt_number": null, "source_transfer_reversal": null,
            "status": "succeeded", "transfer_reversal": null,
        });
        self.put(refund.clone());
        self.emit("refund.created", &refund);
        self.emit("charge.refunded", &charge);
        Ok(refund)
    }

    /// Disputes the payment of an invoice.
    pub(super) fn dispute(&mut self, invoice: &str) -> Answer {
        let intent = self.payment_of(invoice)?;
        let charge = self.charge_of(&intent);
        let dispute = json!({
            "id": self.new_id("du"), "object": "dispute", "amount": charge["amount"], "charge": charge["id"],
            "created": self.now(), "currency": charge["currency"], "livemode": false, "metadata": {},
            "payment_intent": intent, "reason": "general", "status": "needs_response",
        });
        self.put(dispute.clone());
        self.emit("charge.dispute.created", &dispute);
        Ok(dispute)
    }

    /// Issues a credit note over a part of an invoice. With `refund`, it has made that refund.
    pub(super) fn credit(
        &mut self,
        invoice: &str,
        net: i64,
        tax: i64,
        refund: Option<&str>,
    ) -> Answer {
        let invoice = self.existing(invoices::KIND, invoice)?;
        let (id, total) = (self.new_id("cn"), net + tax);
        let refunds: Vec<Value> = refund
            .map(|refund| {
                json!({
                    "amount_refunded": total, "payment_record_refund": null, "refund": refund, "type": "refund",
                })
            })
            .into_iter()
            .collect();
        let credited = json!({
            "id": id, "object": "credit_note", "amount": total, "amount_shipping": 0, "created": self.now(),
            "currency": invoice["currency"], "customer": invoice["customer"], "customer_account": null,
            "customer_balance_transaction": null, "discount_amount": 0, "discount_amounts": [],
            "effective_at": self.now(), "invoice": invoice["id"],
            "lines": {
                "object": "list", "data": [], "has_more": false, "url": format!("/v1/credit_notes/{id}/lines"),
            },
        });
        let document = json!({
            "livemode": false, "memo": null, "metadata": {}, "number": format!("{id}-CN-01"),
            "out_of_band_amount": null, "pdf": format!("https://pay.stripe.com/credit_notes/{id}/pdf"),
            "post_payment_amount": total, "pre_payment_amount": 0, "pretax_credit_amounts": [], "reason": null,
            "refunds": refunds, "shipping_cost": null, "status": "issued", "subtotal": net,
            "subtotal_excluding_tax": net, "total": total, "total_excluding_tax": net, "total_taxes": [],
            "type": "post_payment", "voided_at": null,
        });
        let note = merged([credited, document]);
        self.put(note.clone());
        self.emit("credit_note.created", &note);
        Ok(note)
    }

    /// Changes the status of a credit note, a refund or a dispute.
    pub(super) fn set_status(&mut self, id: &str, status: &str) -> Answer {
        let kinds = [
            ("credit_note", "credit_note.updated"),
            ("refund", "refund.updated"),
            ("dispute", "charge.dispute.updated"),
        ];
        let object = self.find(id).cloned().unwrap_or_default();
        let known = kinds.iter().find(|(kind, _)| object["object"] == *kind);
        let (kind, event) = known.copied().unwrap_or(kinds[0]);
        let mut object = self.existing(kind, id)?;
        object["status"] = json!(status);
        self.put(object.clone());
        self.emit(event, &object);
        Ok(object)
    }

    pub(super) fn list_credit_notes(&mut self, _: &[&str], params: &mut Params) -> Answer {
        self.list_by("credit_note", "/v1/credit_notes", "invoice", params)
    }

    pub(super) fn list_refunds(&mut self, _: &[&str], params: &mut Params) -> Answer {
        self.list_by("refund", "/v1/refunds", "payment_intent", params)
    }

    pub(super) fn list_disputes(&mut self, _: &[&str], params: &mut Params) -> Answer {
        self.list_by("dispute", "/v1/disputes", "payment_intent", params)
    }

    /// One page of the objects of a kind, of those whose field is equal to the parameter of its name if that is given.
    fn list_by(&self, kind: &str, url: &str, field: &str, params: &mut Params) -> Answer {
        let value = params.filled(field)?;
        self.page(url, params, |object| {
            object["object"] == kind && value.as_ref().is_none_or(|it| object[field] == **it)
        })
    }

    fn charge_of(&self, intent: &Value) -> Value {
        let is_charge =
            |object: &&Value| object["object"] == "charge" && object["payment_intent"] == *intent;
        self.objects()
            .iter()
            .find(is_charge)
            .cloned()
            .unwrap_or_default()
    }
}
