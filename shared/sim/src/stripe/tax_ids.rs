//! Tax ids of customers. They are immutable: a changed one is created anew, and the old one is deleted.

use serde_json::{Value, json};

use super::{idempotency::Answer, params::Params, refusal::Refusal, state::State};

const KIND: &str = "tax_id";
/// Supported types with the prefix of their values, if they have one.
const TYPES: [(&str, Option<&str>); 5] = [
    ("eu_vat", None),
    ("gb_vat", Some("GB")),
    ("ch_vat", Some("CHE")),
    ("no_vat", None),
    ("us_ein", None),
];
/// Prefixes of VAT ids in the European Union, Northern Ireland included.
const EU: [&str; 28] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "EL", "ES", "FI", "FR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK", "XI",
];

impl State {
    pub(super) fn create_tax_id(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        let customer = self.existing("customer", ids[0])?["id"].clone();
        let (kind, value) = (params.required("type")?, params.required("value")?);
        params.finish()?;
        let country = country(&kind, &value)?;
        let id = self.new_id("txi");
        let tax_id = json!({
            "id": id, "object": KIND, "country": country, "created": self.now(), "customer": customer,
            "customer_account": null, "livemode": false,
            "owner": { "type": "customer", "customer": customer, "customer_account": null },
            "type": kind, "value": value,
            "verification": { "status": "pending", "verified_address": null, "verified_name": null },
        });
        self.put(tax_id.clone());
        self.emit("customer.tax_id.created", &tax_id);
        Ok(tax_id)
    }

    pub(super) fn retrieve_tax_id(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        self.tax_id_of(ids)
    }

    pub(super) fn list_tax_ids(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        self.existing("customer", ids[0])?;
        let url = format!("/v1/customers/{}/tax_ids", ids[0]);
        self.page(&url, params, |object| {
            object["object"] == KIND && object["customer"] == ids[0]
        })
    }

    pub(super) fn delete_tax_id(&mut self, ids: &[&str], params: &mut Params) -> Answer {
        params.finish()?;
        let tax_id = self.tax_id_of(ids)?;
        self.remove(ids[1]);
        self.emit("customer.tax_id.deleted", &tax_id);
        Ok(json!({ "id": ids[1], "object": KIND, "deleted": true }))
    }

    fn tax_id_of(&self, ids: &[&str]) -> Answer {
        let tax_id = self.existing(KIND, ids[1])?;
        if tax_id["customer"] != ids[0] {
            return Err(Refusal::missing(ids[1]));
        }
        Ok(tax_id)
    }
}

/// Country of a tax id, if its type and value match.
fn country(kind: &str, value: &str) -> Result<Value, Refusal> {
    let Some((_, prefix)) = TYPES.iter().find(|(name, _)| *name == kind) else {
        let message = "Invalid tax id type.";
        return Err(Refusal::param("parameter_invalid_string", "type", message));
    };
    let invalid = || Refusal::param("tax_id_invalid", "value", "Invalid value for this type.");
    let letters = value.get(..2).ok_or_else(invalid)?;
    let is_valid = value.len() >= 8
        && value.bytes().all(|it| it.is_ascii_alphanumeric())
        && prefix.is_none_or(|prefix| value.starts_with(prefix))
        && (kind != "eu_vat" || EU.contains(&letters));
    if !is_valid {
        return Err(invalid());
    }
    Ok(match (kind, letters) {
        ("eu_vat", "EL") => json!("GR"),
        ("eu_vat", "XI") | ("gb_vat", _) => json!("GB"),
        ("eu_vat", letters) => json!(letters),
        ("ch_vat", _) => json!("CH"),
        ("no_vat", _) => json!("NO"),
        _ => json!("US"),
    })
}
