//! Payment methods: cards that are attached to customers.

use serde_json::{Value, json};

use super::{idempotency::Answer, params::Params, refusal::Refusal, state::State};

const KIND: &str = "payment_method";

/// Behaviour of a test card.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CardBehaviour {
    Accepted,
    /// The bank asks the person to authenticate.
    NeedsAuthentication,
    Declined,
    /// It can be entered, and every charge is declined.
    ChargeFails,
}

/// Test card, by the id of its payment method.
#[derive(Debug, Clone, Copy)]
pub(super) struct TestCard {
    pub(super) behaviour: CardBehaviour,
    brand: &'static str,
    last4: &'static str,
}

/// The test card of this id.
pub(super) fn test_card(id: &str) -> Option<TestCard> {
    let (behaviour, brand, last4) = match id {
        "pm_card_chargeCustomerFail" => (CardBehaviour::ChargeFails, "visa", "0341"),
        "pm_card_visa" => (CardBehaviour::Accepted, "visa", "4242"),
        "pm_card_mastercard" => (CardBehaviour::Accepted, "mastercard", "4444"),
        "pm_card_authenticationRequired" => (CardBehaviour::NeedsAuthentication, "visa", "3184"),
        "pm_card_visa_chargeDeclined" => (CardBehaviour::Declined, "visa", "0002"),
        _ => return None,
    };
    Some(TestCard {
        behaviour,
        brand,
        last4,
    })
}

/// Behaviour of the card of a payment method, by which it is charged.
pub(super) fn behaviour_of(method: &Value) -> CardBehaviour {
    match method["card"]["last4"].as_str() {
        Some("0341") => CardBehaviour::ChargeFails,
        Some("3184") => CardBehaviour::NeedsAuthentication,
        _ => CardBehaviour::Accepted,
    }
}

impl State {
    /// A new payment method of a test card, attached to `customer`.
    pub(super) fn add_card(&mut self, card: TestCard, customer: &Value) -> Value {
        let id = self.new_id("pm");
        let method = json!({
            "id": id, "object": KIND, "allow_redisplay": "unspecified",
            "billing_details": {
                "address": {
                    "city": null, "country": null, "line1": null, "line2": null, "postal_code": null, "state": null,
                },
                "email": null, "name": null, "phone": null, "tax_id": null,
            },
            "card": {
                "brand": card.brand,
                "checks": { "address_line1_check": null, "address_postal_code_check": null, "cvc_check": "pass" },
                "country": "US", "display_brand": card.brand, "exp_month": 4, "exp_year": 2029,
                "fingerprint": format!("fp{}", card.last4), "funding": "credit", "generated_from": null,
                "last4": card.last4, "networks": { "available": [card.brand], "preferred": null },
                "regulated_status": "unregulated", "three_d_secure_usage": { "supported": true }, "wallet": null,
            },
            "created": self.now(), "customer": customer, "customer_account": null, "livemode": false,
            "metadata": {}, "type": "card",
        });
        self.put(method.clone());
        self.emit("payment_method.attached", &method);
        method
    }

    pub(super) fn retrieve_payment_method(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing(KIND, ids[0])
    }

    pub(super) fn attach_payment_method(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let customer = params.required("customer")?;
        params.finish()?;
        let customer = self.referenced("customer", "customer", &customer)?["id"].clone();
        if let Some(card) = test_card(ids[0]) {
            if card.behaviour == CardBehaviour::Declined {
                return Err(Refusal::card_declined());
            }
            return Ok(self.add_card(card, &customer));
        }
        let method = self.existing(KIND, ids[0])?;
        if method["customer"] == customer {
            return Ok(method);
        }
        // A method that was detached cannot be used again.
        let message = "The payment method is or was attached to a customer.";
        Err(Refusal::invalid(message))
    }

    pub(super) fn detach_payment_method(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        let mut method = self.existing(KIND, ids[0])?;
        let Some(customer) = method["customer"].as_str().map(str::to_owned) else {
            return Err(Refusal::invalid("The payment method is not attached."));
        };
        method["customer"] = Value::Null;
        self.put(method.clone());
        self.emit("payment_method.detached", &method);
        self.clear_default(&customer, ids[0]);
        Ok(method)
    }

    pub(super) fn list_payment_methods(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.filled("customer")?;
        let kind = params.filled("type")?;
        self.page("/v1/payment_methods", params, |object| {
            object["object"] == KIND
                && customer
                    .as_ref()
                    .is_none_or(|it| object["customer"] == **it)
                && kind.as_ref().is_none_or(|it| object["type"] == **it)
        })
    }

    pub(super) fn list_customer_payment_methods(
        &mut self,
        ids: &[&str],
        params: &mut Params,
    ) -> Answer {
        self.existing("customer", ids[0])?;
        let kind = params.filled("type")?;
        let url = format!("/v1/customers/{}/payment_methods", ids[0]);
        self.page(&url, params, |object| {
            object["object"] == KIND
                && object["customer"] == ids[0]
                && kind.as_ref().is_none_or(|it| object["type"] == **it)
        })
    }

    /// A customer's default method that is detached is its default no longer.
    fn clear_default(&mut self, customer: &str, method: &str) {
        let Ok(mut customer) = self.existing("customer", customer) else {
            return;
        };
        let default = &mut customer["invoice_settings"]["default_payment_method"];
        if *default == method {
            *default = Value::Null;
            self.put(customer.clone());
            self.emit("customer.updated", &customer);
        }
    }
}
