//! Event of Stripe: which object changed there. An event's copy of its object may be outdated, so only names are read
//! from it, and the object is read again.

use std::collections::BTreeMap;

use bson::DateTime;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Longest id, type and version.
const MAX_ID: usize = 255;
/// Type of a customer.
pub const CUSTOMER: &str = "customer";
/// Type of an invoice.
pub const INVOICE: &str = "invoice";
/// Type of a subscription.
pub const SUBSCRIPTION: &str = "subscription";
/// Type of a payment, which leads to an invoice.
pub const PAYMENT_INTENT: &str = "payment_intent";

/// Event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Event {
    /// Id.
    pub id: String,
    /// Type, such as `customer.updated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Time in seconds.
    pub created: i64,
    /// Whether it is of the live mode.
    pub livemode: bool,
    /// Version of the API that its object has.
    #[serde(default)]
    pub api_version: Option<String>,
    /// Connected account that it is of. Ours has none.
    #[serde(default)]
    pub account: Option<String>,
    data: EventData,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct EventData {
    object: EventObject,
    #[serde(default)]
    previous_attributes: Option<PreviousAttributes>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PreviousAttributes {
    #[serde(default, deserialize_with = "text")]
    customer: Option<String>,
}

/// Names in an event's object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EventObject {
    /// Type, such as `customer`.
    #[serde(default)]
    pub object: String,
    /// Id. A few kinds of objects have none.
    #[serde(default, deserialize_with = "text")]
    pub id: Option<String>,
    /// Customer that the object is of.
    #[serde(default, deserialize_with = "text")]
    pub customer: Option<String>,
    #[serde(default, deserialize_with = "text")]
    invoice: Option<String>,
    #[serde(default, deserialize_with = "text")]
    payment_intent: Option<String>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
}

/// A text; none if the field holds anything else.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(deserializer)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

/// Object at Stripe, by its name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StripeObject {
    /// Type, such as `customer`.
    pub object_type: String,
    /// Id.
    pub object_id: String,
}

impl Event {
    /// Names of the object that changed.
    pub fn object(&self) -> &EventObject {
        &self.data.object
    }

    /// Whether its names can be those of Stripe.
    pub fn is_valid(&self) -> bool {
        let object = self.object();
        let ids = [
            &object.id,
            &object.customer,
            &object.invoice,
            &object.payment_intent,
        ];
        let version = self.api_version.as_deref().unwrap_or_default();
        let texts = [self.kind.as_str(), object.object.as_str(), version];
        is_event_id(&self.id)
            && ids.into_iter().flatten().all(|id| is_id(id))
            && texts.iter().all(|text| text.len() <= MAX_ID)
    }

    /// Time of the event.
    pub fn created_at(&self) -> DateTime {
        DateTime::from_millis(self.created.saturating_mul(1_000))
    }

    /// The object that has to be read again: a customer, also for its cards and tax ids, a subscription, or an invoice, also
    /// for its credit notes; the payment for refunds and disputes. `None` if nothing depends on the object that changed.
    pub fn mirrored(&self) -> Option<StripeObject> {
        let object = self.object();
        let (object_type, id) = match object.object.as_str() {
            CUSTOMER => (CUSTOMER, object.id.as_ref()),
            "payment_method" | "setup_intent" | "tax_id" => {
                let customer = object.customer.as_ref();
                (CUSTOMER, customer.or_else(|| self.former_customer()))
            }
            INVOICE => (INVOICE, object.id.as_ref()),
            SUBSCRIPTION => (SUBSCRIPTION, object.id.as_ref()),
            "credit_note" | "invoice_payment" => (INVOICE, object.invoice.as_ref()),
            "charge" | "dispute" | "refund" => (PAYMENT_INTENT, object.payment_intent.as_ref()),
            _ => return None,
        };
        id.filter(|id| is_id(id)).map(|id| StripeObject {
            object_type: object_type.to_owned(),
            object_id: id.clone(),
        })
    }

    /// Customer of a card that was detached.
    fn former_customer(&self) -> Option<&String> {
        self.data.previous_attributes.as_ref()?.customer.as_ref()
    }
}

impl EventObject {
    /// A value of the object's metadata.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key)?.as_str()
    }
}

/// Whether `id` can be the id of an event.
pub fn is_event_id(id: &str) -> bool {
    id.starts_with("evt_") && is_id(id)
}

fn is_id(id: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(object: &Value, previous: &Value) -> Event {
        let event = json!({
            "id": "evt_1", "type": "x", "created": 1, "livemode": false, "api_version": null,
            "data": { "object": object, "previous_attributes": previous },
        });
        serde_json::from_value(event).unwrap()
    }

    #[test]
    fn a_change_leads_to_the_customer_or_the_invoice_that_it_concerns() {
        let card = |customer: Value| json!({ "object": "payment_method", "id": "pm_1", "customer": customer });
        for (object, previous, expected) in [
            (
                json!({ "object": "customer", "id": "cus_1" }),
                Value::Null,
                Some("cus_1"),
            ),
            (card(json!("cus_1")), Value::Null, Some("cus_1")),
            (
                card(Value::Null),
                json!({ "customer": "cus_1" }),
                Some("cus_1"),
            ),
            (card(Value::Null), json!({}), None),
            (
                json!({ "object": "tax_id", "id": "txi_1", "customer": "cus_1" }),
                Value::Null,
                Some("cus_1"),
            ),
            (
                json!({ "object": "invoice", "id": "in_1", "customer": "cus_1" }),
                Value::Null,
                Some("in_1"),
            ),
            (
                json!({ "object": "subscription", "id": "sub_1", "customer": "cus_1" }),
                Value::Null,
                Some("sub_1"),
            ),
            (
                json!({ "object": "credit_note", "id": "cn_1", "invoice": "in_1" }),
                Value::Null,
                Some("in_1"),
            ),
            (
                json!({ "object": "refund", "id": "re_1", "payment_intent": "pi_1" }),
                Value::Null,
                Some("pi_1"),
            ),
            (
                json!({ "object": "dispute", "id": "du_1", "payment_intent": null }),
                Value::Null,
                None,
            ),
            (json!({ "object": "balance", "id": 7 }), Value::Null, None),
        ] {
            let mirrored = event(&object, &previous).mirrored();

            let found = mirrored.as_ref().map(|object| object.object_id.as_str());
            assert_eq!(found, expected, "{object}");
        }
    }

    #[test]
    fn an_id_that_stripe_cannot_have_created_is_not_valid() {
        assert!(
            event(
                &json!({ "object": "customer", "id": "cus_1" }),
                &Value::Null
            )
            .is_valid()
        );
        for id in ["", "cus/1", "cus 1", &"c".repeat(256)] {
            let event = event(&json!({ "object": "customer", "id": id }), &Value::Null);
            assert!(!event.is_valid(), "{id}");
            assert_eq!(event.mirrored(), None, "{id}");
        }
        assert!(is_event_id("evt_1") && !is_event_id("cus_1"));
    }
}
