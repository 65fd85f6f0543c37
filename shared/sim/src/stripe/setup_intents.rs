//! Setup intents: a card is entered, authenticated if its bank asks for it, and attached to the customer.

use serde_json::{Value, json};

use super::{
    idempotency::Answer,
    params::Params,
    payment_methods::{CardBehaviour, test_card},
    refusal::Refusal,
    state::State,
};

const KIND: &str = "setup_intent";
const UNEXPECTED_STATE: &str = "setup_intent_unexpected_state";

impl State {
    pub(super) fn create_setup_intent(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = match params.filled("customer")? {
            Some(id) => self.referenced("customer", "customer", &id)?["id"].clone(),
            None => Value::Null,
        };
        let usage = params
            .filled("usage")?
            .unwrap_or_else(|| "off_session".to_owned());
        let types = params.list("allowed_payment_method_types")?;
        let types = types.unwrap_or_else(|| vec!["card".to_owned()]);
        let id = self.new_id("seti");
        let mut intent = json!({
            "id": id, "object": KIND, "application": null, "automatic_payment_methods": null,
            "cancellation_reason": null, "client_secret": format!("{id}_secret_{:08x}", self.last_id()),
            "created": self.now(), "customer": customer, "description": null, "excluded_payment_method_types": null,
            "flow_directions": null, "last_setup_error": null, "latest_attempt": null, "livemode": false,
            "mandate": null, "metadata": {}, "next_action": null, "on_behalf_of": null, "payment_method": null,
            "payment_method_configuration_details": null, "payment_method_options": {},
            "payment_method_types": types, "single_use_mandate": null, "status": "requires_payment_method",
            "usage": usage,
        });
        if let Some(description) = params.text("description")? {
            intent["description"] = description;
        }
        params.merge_metadata(&mut intent)?;
        params.finish()?;
        self.put(intent.clone());
        self.emit("setup_intent.created", &intent);
        Ok(intent)
    }

    pub(super) fn retrieve_setup_intent(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing(KIND, ids[0])
    }

    pub(super) fn list_setup_intents(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let customer = params.filled("customer")?;
        self.page("/v1/setup_intents", params, |object| {
            object["object"] == KIND
                && customer
                    .as_ref()
                    .is_none_or(|it| object["customer"] == **it)
        })
    }

    pub(super) fn confirm_setup_intent(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let method = params.required("payment_method")?;
        params.text("return_url")?;
        params.finish()?;
        self.enter_card(ids[0], &method)
    }

    pub(super) fn cancel_setup_intent(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let reason = params.text("cancellation_reason")?;
        params.finish()?;
        let mut intent = self.open_intent(ids[0])?;
        intent["status"] = json!("canceled");
        intent["cancellation_reason"] = reason.unwrap_or_default();
        intent["next_action"] = Value::Null;
        self.put(intent.clone());
        self.emit("setup_intent.canceled", &intent);
        Ok(intent)
    }

    /// Enters a test card, as a person does in the browser.
    pub(super) fn enter_card(&mut self, id: &str, method: &str) -> Answer {
        let mut intent = self.open_intent(id)?;
        let Some(card) = test_card(method) else {
            return Err(Refusal::missing_param("payment_method", method));
        };
        match card.behaviour {
            CardBehaviour::Accepted | CardBehaviour::ChargeFails => self.complete(intent, method),
            CardBehaviour::NeedsAuthentication => {
                intent["status"] = json!("requires_action");
                intent["next_action"] = json!({ "type": "use_stripe_sdk", "use_stripe_sdk": {} });
                self.put(intent.clone());
                self.emit("setup_intent.requires_action", &intent);
                Ok(intent)
            }
            CardBehaviour::Declined => Err(self.decline(intent, "card_declined")),
        }
    }

    /// Ends the authentication of a card, as a person does at the bank.
    pub(super) fn authenticate(&mut self, id: &str, succeeds: bool) -> Answer {
        let intent = self.open_intent(id)?;
        if intent["status"] != "requires_action" {
            return Err(Refusal::unexpected_state(UNEXPECTED_STATE));
        }
        if succeeds {
            return self.complete(intent, "pm_card_authenticationRequired");
        }
        Err(self.decline(intent, "setup_intent_authentication_failure"))
    }

    fn complete(&mut self, mut intent: Value, method: &str) -> Answer {
        let Some(card) = test_card(method) else {
            return Err(Refusal::missing_param("payment_method", method));
        };
        let customer = intent["customer"].clone();
        let method = self.add_card(card, &customer);
        intent["payment_method"] = method["id"].clone();
        intent["status"] = json!("succeeded");
        intent["next_action"] = Value::Null;
        intent["last_setup_error"] = Value::Null;
        self.put(intent.clone());
        self.emit("setup_intent.succeeded", &intent);
        Ok(intent)
    }

    /// The card is declined: the intent waits for another one. The error embeds it, its client secret included.
    fn decline(&mut self, mut intent: Value, code: &str) -> Refusal {
        let mut refusal = Refusal::card_declined();
        refusal.code = Some(code.into());
        intent["status"] = json!("requires_payment_method");
        intent["next_action"] = Value::Null;
        intent["last_setup_error"] = json!({
            "type": refusal.kind, "code": refusal.code, "decline_code": refusal.decline_code,
            "message": refusal.message,
        });
        self.put(intent.clone());
        self.emit("setup_intent.setup_failed", &intent);
        refusal.object = Some(Box::new(("setup_intent".to_owned(), intent)));
        refusal
    }

    fn open_intent(&self, id: &str) -> Answer {
        let intent = self.existing(KIND, id)?;
        if intent["status"] == "succeeded" || intent["status"] == "canceled" {
            return Err(Refusal::unexpected_state(UNEXPECTED_STATE));
        }
        Ok(intent)
    }
}
