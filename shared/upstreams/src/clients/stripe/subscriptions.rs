//! Subscriptions of one item with the quantity 1, charged to the customer's card.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Form, KeyedError, Price, Stripe, segment};
use crate::clients::{ClientError, Operation};

const LIST: Operation = Operation::read("list_subscriptions");
const RETRIEVE: Operation = Operation::read("retrieve_subscription");
const CREATE: Operation = Operation::write("create_subscription");
const UPDATE: Operation = Operation::write("update_subscription");
const CANCEL: Operation = Operation::write("cancel_subscription");
const RETRIEVE_PAYMENT: Operation = Operation::read("retrieve_payment_intent");

/// Subscription.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Subscription {
    /// Id.
    pub id: String,
    /// Customer.
    pub customer: String,
    /// Status: `incomplete`, `incomplete_expired`, `trialing`, `active`, `past_due`, `unpaid`, `paused` or `canceled`.
    pub status: String,
    /// Our keys: the ids of the tenant and of its subscription.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
    /// Instant from which its periods are counted, in seconds.
    pub billing_cycle_anchor: i64,
    /// Whether it ends with the current period.
    #[serde(default)]
    pub cancel_at_period_end: bool,
    /// Time of its end in seconds.
    #[serde(default)]
    pub ended_at: Option<i64>,
    /// Payment method of its own, which is charged instead of the customer's.
    #[serde(default)]
    pub default_payment_method: Option<String>,
    /// Last invoice.
    #[serde(default)]
    pub latest_invoice: Option<String>,
    #[serde(default)]
    cancellation_details: Option<Cancellation>,
    items: Items,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Cancellation {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Items {
    data: Vec<SubscriptionItem>,
}

/// Item of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct SubscriptionItem {
    /// Id.
    pub id: String,
    /// Creation time in seconds.
    #[serde(default)]
    pub created: i64,
    /// Price.
    pub price: Price,
    /// Number of units.
    #[serde(default)]
    pub quantity: Option<i64>,
    /// First second of the current period.
    pub current_period_start: i64,
    /// First second after the current period.
    pub current_period_end: i64,
}

impl Subscription {
    /// Its oldest item, which is the only one of those that we create: others were added in the dashboard.
    pub fn item(&self) -> Option<&SubscriptionItem> {
        self.items.data.iter().min_by_key(|item| item.created)
    }

    /// Whether it has no other item.
    pub fn has_one_item(&self) -> bool {
        self.items.data.len() == 1
    }

    /// Reason of its cancellation: `cancellation_requested`, `payment_disputed` or `payment_failed`.
    pub fn cancellation_reason(&self) -> Option<&str> {
        self.cancellation_details.as_ref()?.reason.as_deref()
    }
}

/// Payment of an invoice.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct PaymentIntent {
    status: String,
}

/// Subscription to create.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSubscription {
    /// Customer.
    pub customer: String,
    /// Price.
    pub price: String,
    /// End of its first period, which is not charged, in seconds. Without one, the first full period begins at once.
    pub anchor: Option<i64>,
    /// Start of the time before now that is charged with the first full period, in seconds.
    pub backdated_to: Option<i64>,
    /// Tenant's id.
    pub tenant_id: String,
    /// Our subscription's id.
    pub subscription_id: String,
}

/// Change of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionChange {
    /// Item, and the price that it gets. The rest of the period is prorated.
    pub price: Option<(String, String)>,
    /// Whether it ends with the current period.
    pub cancel_at_period_end: bool,
    /// Whether its own payment method is removed, so that the customer's is charged.
    pub clears_payment_method: bool,
}

fn form(fields: Vec<(&str, String)>) -> Form {
    let owned = |(name, value): (&str, String)| (name.to_owned(), value);
    fields.into_iter().map(owned).collect()
}

impl Stripe {
    /// The subscriptions of a customer, those that have ended included; none if the customer does not exist.
    pub async fn list_subscriptions(
        &self,
        customer: &str,
    ) -> Result<Vec<Subscription>, ClientError> {
        let filter = [("customer", customer), ("status", "all")];
        self.list_all(LIST, "/v1/subscriptions", &filter, |it: &Subscription| {
            &it.id
        })
        .await
    }

    /// Reads a subscription. `None` if it does not exist.
    pub async fn retrieve_subscription(
        &self,
        id: &str,
    ) -> Result<Option<Subscription>, ClientError> {
        let path = format!("/v1/subscriptions/{}", segment(RETRIEVE, id)?);
        self.get(RETRIEVE, &path, &Form::new()).await
    }

    /// Creates a subscription. A first payment that fails leaves it incomplete. `None` if the customer does not exist, or has
    /// no card.
    pub async fn create_subscription(
        &self,
        new: &NewSubscription,
        key: &str,
    ) -> Result<Option<Subscription>, KeyedError> {
        let mut fields = vec![
            ("customer", new.customer.clone()),
            ("items[0][price]", new.price.clone()),
            ("items[0][quantity]", "1".to_owned()),
            ("collection_method", "charge_automatically".to_owned()),
            ("payment_behavior", "allow_incomplete".to_owned()),
            // By default, Stripe bills a backdated time and the credits of several changes in other lines, which we do not read.
            ("billing_mode[type]", "classic".to_owned()),
            ("metadata[tenantId]", new.tenant_id.clone()),
            ("metadata[subscriptionId]", new.subscription_id.clone()),
        ];
        if let Some(anchor) = new.anchor {
            fields.push(("billing_cycle_anchor", anchor.to_string()));
            fields.push(("proration_behavior", "none".to_owned()));
        }
        if let Some(start) = new.backdated_to {
            fields.push(("backdate_start_date", start.to_string()));
        }
        if self.automatic_tax {
            fields.push(("automatic_tax[enabled]", "true".to_owned()));
        }
        self.post(CREATE, "/v1/subscriptions", &form(fields), key)
            .await
    }

    /// Changes a subscription. `None` if it does not exist.
    pub async fn update_subscription(
        &self,
        id: &str,
        change: &SubscriptionChange,
        key: &str,
    ) -> Result<Option<Subscription>, KeyedError> {
        let ends = change.cancel_at_period_end.to_string();
        let mut fields = vec![("cancel_at_period_end", ends)];
        if let Some((item, price)) = &change.price {
            fields.push(("items[0][id]", item.clone()));
            fields.push(("items[0][price]", price.clone()));
            fields.push(("items[0][quantity]", "1".to_owned()));
            fields.push(("proration_behavior", "create_prorations".to_owned()));
        }
        if change.clears_payment_method {
            fields.push(("default_payment_method", String::new()));
        }
        let path = format!("/v1/subscriptions/{}", segment(UPDATE, id)?);
        self.post(UPDATE, &path, &form(fields), key).await
    }

    /// Cancels a subscription at once, without a credit. Returns whether it was live.
    pub async fn cancel_subscription(&self, id: &str) -> Result<bool, ClientError> {
        let path = format!("/v1/subscriptions/{}", segment(CANCEL, id)?);
        self.delete(CANCEL, &path).await
    }

    /// Whether the customer has to authenticate a payment of this invoice at the bank.
    pub async fn needs_authentication(&self, invoice: &str) -> Result<bool, ClientError> {
        for payment in self.list_invoice_payments(invoice).await? {
            let Some(intent) = payment.payment_intent() else {
                continue;
            };
            let path = format!("/v1/payment_intents/{}", segment(RETRIEVE_PAYMENT, intent)?);
            let intent: Option<PaymentIntent> =
                self.get(RETRIEVE_PAYMENT, &path, &Form::new()).await?;
            if intent.is_some_and(|intent| intent.status == "requires_action") {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
