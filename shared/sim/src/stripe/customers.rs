//! Customers.

use serde_json::{Value, json};

use super::{idempotency::Answer, params::Params, refusal::Refusal, state::State, subscriptions};

const KIND: &str = "customer";
const ADDRESS: [&str; 6] = ["city", "country", "line1", "line2", "postal_code", "state"];

impl State {
    pub(super) fn create_customer(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let id = self.new_id("cus");
        let mut customer = json!({
            "id": id, "object": KIND, "address": null, "balance": 0, "created": self.now(), "currency": null,
            "default_source": null, "delinquent": false, "description": null, "discount": null, "email": null,
            "invoice_prefix": format!("{:08X}", self.last_id()),
            "invoice_settings": {
                "custom_fields": null, "default_payment_method": null, "footer": null, "rendering_options": null,
            },
            "livemode": false, "metadata": {}, "name": null, "next_invoice_sequence": 1, "phone": null,
            "preferred_locales": [], "shipping": null, "tax_exempt": "none", "test_clock": null,
        });
        self.edit_customer(&mut customer, params)?;
        self.put(customer.clone());
        self.emit("customer.created", &customer);
        Ok(customer)
    }

    pub(super) fn retrieve_customer(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        let found = self.find(ids[0]).filter(|it| it["object"] == KIND);
        found.cloned().ok_or_else(|| Refusal::missing(ids[0]))
    }

    pub(super) fn update_customer(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let mut customer = self.existing(KIND, ids[0])?;
        self.edit_customer(&mut customer, params)?;
        self.put(customer.clone());
        self.emit("customer.updated", &customer);
        Ok(customer)
    }

    pub(super) fn delete_customer(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        let customer = self.existing(KIND, ids[0])?;
        let id = ids[0];
        for mut owned in self.owned_by(id) {
            match owned["object"].as_str() {
                Some("payment_method") => {
                    owned["customer"] = Value::Null;
                    self.put(owned);
                }
                _ => self.remove(owned["id"].as_str().unwrap_or_default()),
            }
        }
        for subscription in self.live_subscriptions(id) {
            self.end_subscription(subscription, "cancellation_requested");
        }
        let deleted = json!({ "id": id, "object": KIND, "deleted": true });
        self.put(deleted.clone());
        self.emit("customer.deleted", &customer);
        Ok(deleted)
    }

    pub(super) fn list_customers(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let email = params.filled("email")?;
        self.page("/v1/customers", params, |object| {
            object["object"] == KIND
                && object["deleted"] != true
                && email
                    .as_ref()
                    .is_none_or(|email| object["email"] == **email)
        })
    }

    /// The tax ids and payment methods of a customer.
    fn owned_by(&self, customer: &str) -> Vec<Value> {
        let is_owned = |object: &&Value| {
            object["customer"] == customer
                && (object["object"] == "tax_id" || object["object"] == "payment_method")
        };
        self.objects().iter().filter(is_owned).cloned().collect()
    }

    fn live_subscriptions(&self, customer: &str) -> Vec<Value> {
        let is_live = |object: &&Value| {
            object["object"] == subscriptions::KIND
                && object["customer"] == customer
                && !subscriptions::has_ended(object)
        };
        self.objects().iter().filter(is_live).cloned().collect()
    }

    fn edit_customer(&self, customer: &mut Value, params: &mut Params) -> Result<(), Refusal> {
        for field in ["name", "email", "phone", "description"] {
            if let Some(value) = params.text(field)? {
                customer[field] = value;
            }
        }
        if customer["email"]
            .as_str()
            .is_some_and(|it| !it.contains('@'))
        {
            let message = "Invalid email address.";
            return Err(Refusal::param("email_invalid", "email", message));
        }
        if let Some(given) = params.object("address", &ADDRESS)? {
            // An address replaces the whole of the one before.
            let field = |name: &str| given.get(name).cloned().unwrap_or_default();
            customer["address"] = ADDRESS
                .iter()
                .map(|name| ((*name).to_owned(), field(name)))
                .collect();
        }
        if let Some(locales) = params.list("preferred_locales")? {
            customer["preferred_locales"] = json!(locales);
        }
        if let Some(exempt) = params.filled("tax_exempt")? {
            if !["none", "exempt", "reverse"].contains(&exempt.as_str()) {
                let message = "Invalid tax_exempt.";
                return Err(Refusal::param(
                    "parameter_invalid_string",
                    "tax_exempt",
                    message,
                ));
            }
            customer["tax_exempt"] = json!(exempt);
        }
        let settings = params.object("invoice_settings", &["default_payment_method", "footer"])?;
        for (field, value) in settings.unwrap_or_default() {
            if field == "default_payment_method" {
                self.check_default(customer, &value)?;
            }
            customer["invoice_settings"][field.as_str()] = value;
        }
        params.merge_metadata(customer)?;
        params.finish()
    }

    /// A default payment method has to be attached to the customer.
    fn check_default(&self, customer: &Value, method: &Value) -> Result<(), Refusal> {
        const PARAM: &str = "invoice_settings[default_payment_method]";
        let Some(id) = method.as_str() else {
            return Ok(());
        };
        let method = self.referenced("payment_method", PARAM, id)?;
        if method["customer"] != customer["id"] {
            return Err(Refusal::missing_param(PARAM, id));
        }
        Ok(())
    }
}
