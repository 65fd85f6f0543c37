//! Products and prices. The amount of a price never changes, and a lookup key belongs to one active price.

use serde_json::{Value, json};

use super::{idempotency::Answer, params::Params, refusal::Refusal, state::State};

const PRODUCT: &str = "product";
pub(super) const PRICE: &str = "price";

impl State {
    pub(super) fn create_product(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let id = match params.filled("id")? {
            Some(id) => id,
            None => self.new_id("prod"),
        };
        if self.find(&id).is_some() {
            let message = "Product already exists.";
            return Err(Refusal::param("resource_already_exists", "id", message));
        }
        let name = params.required("name")?;
        let now = self.now();
        let mut product = json!({
            "id": id, "object": PRODUCT, "active": true, "created": now, "default_price": null, "description": null,
            "images": [], "livemode": false, "marketing_features": [], "metadata": {}, "name": name,
            "package_dimensions": null, "shippable": null, "statement_descriptor": null, "tax_code": null,
            "type": "service", "unit_label": null, "updated": now, "url": null,
        });
        params.merge_metadata(&mut product)?;
        params.finish()?;
        self.put(product.clone());
        self.emit("product.created", &product);
        Ok(product)
    }

    pub(super) fn retrieve_product(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.existing(PRODUCT, ids[0])
    }

    pub(super) fn create_price(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let product = params.required("product")?;
        self.referenced(PRODUCT, "product", &product)?;
        let currency = params.required("currency")?;
        let amount = params.integer("unit_amount")?;
        let recurring = params.object("recurring", &["interval", "interval_count"])?;
        let recurring = recurring.unwrap_or_default();
        let (interval, count) = interval_of(&recurring)?;
        let lookup_key = params.filled("lookup_key")?;
        let transfers = params.filled("transfer_lookup_key")?.as_deref() == Some("true");
        if let Some(key) = &lookup_key {
            self.release_lookup_key(key, transfers)?;
        }
        let tax_behavior = params.filled("tax_behavior")?;
        let mut price = json!({
            "id": self.new_id("price"), "object": PRICE, "active": true, "billing_scheme": "per_unit",
            "created": self.now(), "currency": currency, "custom_unit_amount": null, "livemode": false,
            "lookup_key": lookup_key, "metadata": {}, "nickname": null, "product": product,
            "recurring": {
                "interval": interval, "interval_count": count, "meter": null, "trial_period_days": null,
                "usage_type": "licensed",
            },
            "tax_behavior": tax_behavior.unwrap_or_else(|| "unspecified".to_owned()), "tiers_mode": null,
            "transform_quantity": null, "type": "recurring", "unit_amount": amount,
            "unit_amount_decimal": amount.map(|amount| amount.to_string()),
        });
        params.merge_metadata(&mut price)?;
        params.finish()?;
        self.put(price.clone());
        self.emit("price.created", &price);
        Ok(price)
    }

    pub(super) fn list_prices(&mut self, _: &[&str], params: &mut Params) -> Answer {
        let keys = params.list("lookup_keys")?;
        let active = params.filled("active")?.map(|active| active == "true");
        self.page("/v1/prices", params, |object| {
            let key = object["lookup_key"].as_str().unwrap_or_default();
            object["object"] == PRICE
                && keys
                    .as_ref()
                    .is_none_or(|keys| keys.iter().any(|it| it == key))
                && active.is_none_or(|active| object["active"] == active)
        })
    }

    /// Takes a lookup key from the price that has it, if the request transfers it.
    fn release_lookup_key(&mut self, key: &str, transfers: bool) -> Result<(), Refusal> {
        let has_key = |object: &&Value| object["object"] == PRICE && object["lookup_key"] == key;
        let Some(mut holder) = self.objects().iter().find(has_key).cloned() else {
            return Ok(());
        };
        if !transfers {
            let message = "A price with this lookup key exists.";
            return Err(Refusal::param(
                "resource_already_exists",
                "lookup_key",
                message,
            ));
        }
        holder["lookup_key"] = Value::Null;
        self.put(holder);
        Ok(())
    }
}

/// Interval of a recurring price, and how many of them a period has.
fn interval_of(recurring: &serde_json::Map<String, Value>) -> Result<(String, i64), Refusal> {
    let text = |name: &str| recurring.get(name).and_then(Value::as_str);
    let count = text("interval_count").map_or(Some(1), |count| count.parse().ok());
    match (text("interval"), count) {
        (Some(interval @ ("month" | "year")), Some(count)) => Ok((interval.to_owned(), count)),
        _ => Err(Refusal::param(
            "parameter_invalid_string",
            "recurring[interval]",
            "Not simulated.",
        )),
    }
}
