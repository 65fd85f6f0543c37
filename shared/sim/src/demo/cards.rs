//! Billing by card: the tenant's card at the simulated Stripe, and a subscription that is charged to it.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use dezky_upstreams::clients::simulated;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Demo, people::waiting, send};

/// Time limit for the first invoice of a subscription.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Interval between two looks at the invoices.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The card, as Stripe names its test cards.
const CARD: &str = "pm_card_visa";
/// Collection by card.
const BY_CARD: &str = "charge_automatically";

impl Demo {
    /// Whether the API bills at the simulated Stripe. It may have a real one, or none.
    pub(super) async fn is_stripe_simulated(&self) -> anyhow::Result<bool> {
        let shown = self.request(Method::GET, "/payment-method").send().await;
        let shown = shown.context("no response from the API")?;
        if shown.status() == StatusCode::SERVICE_UNAVAILABLE {
            return Ok(false);
        }
        let shown: Value = shown.error_for_status()?.json().await?;
        Ok(shown["publishableKey"] == simulated::STRIPE_PUBLISHABLE_KEY)
    }

    /// Enters the card and sells the subscription, unless they exist at Stripe, too: a simulator that was killed has
    /// forgotten them.
    pub(super) async fn ensure_charged(&self) -> anyhow::Result<()> {
        let endpoint = json!({
            "url": format!("{}/webhooks/stripe", self.api), "secrets": [simulated::STRIPE_WEBHOOK_SECRET],
        });
        send(self.at_stripe(Method::POST, "/endpoint").json(&endpoint)).await?;
        // No customer is created while Stripe's events are not read.
        let path = "/schedules/stripe_events/run";
        self.complete(self.at(Method::POST, path).json(&json!({})))
            .await?;
        let sync = self.request(Method::POST, "/billing/sync");
        self.complete(sync.json(&json!({}))).await?;
        let billing = self.billing().await?;
        let mut subscription = billing["subscription"].clone();
        if !subscription.is_null() && !is_charged(&subscription) {
            self.end(&subscription).await?;
            subscription = Value::Null;
        }
        if billing["defaultCard"].is_null() {
            self.enter_card().await?;
        }
        if subscription.is_null() {
            subscription = self.sell(Some(BY_CARD)).await?;
        }
        let billing = self.billing().await?;
        let card = &billing["defaultCard"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.say(&format!(
            "card               {} {}",
            text(&card["brand"]),
            text(&card["last4"])
        ));
        let invoice = self.until_paid(&subscription["id"]).await?;
        self.say(&format!(
            "invoice            {} charged to it",
            text(&invoice["number"])
        ));
        Ok(())
    }

    async fn end(&self, subscription: &Value) -> anyhow::Result<()> {
        let id = subscription["id"].as_str().unwrap_or_default();
        let path = format!("/subscriptions/{id}");
        send(self.at(Method::DELETE, &path)).await?;
        Ok(())
    }

    /// Enters the card as a person does in the browser, and sets it.
    async fn enter_card(&self) -> anyhow::Result<()> {
        let begin = self.request(Method::POST, "/payment-method/setup-intents");
        let intent: Value = send(waiting(begin)).await?.json().await?;
        let id = intent["setupIntentId"].as_str();
        let id = id.context("no card can be entered")?;
        let entered = json!({ "setupIntent": id, "method": CARD });
        send(self.at_stripe(Method::POST, "/cards").json(&entered)).await?;
        let set = self.request(Method::PUT, "/payment-method");
        self.complete(set.json(&json!({ "setupIntentId": id })))
            .await
    }

    /// A paid invoice of the subscription, once there is one.
    async fn until_paid(&self, subscription: &Value) -> anyhow::Result<Value> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let page = send(self.request(Method::GET, "/invoices?status=paid")).await?;
            let page: Value = page.json().await?;
            let mut items = page["items"].as_array().into_iter().flatten();
            if let Some(paid) = items.find(|it| it["subscriptionId"] == *subscription) {
                return Ok(paid.clone());
            }
            ensure!(
                Instant::now() < deadline,
                "no invoice of the subscription is paid"
            );
            sleep(POLL_INTERVAL).await;
        }
    }
}

/// Whether Stripe charges a live subscription to a card.
fn is_charged(subscription: &Value) -> bool {
    let is_there = subscription["stripeSubscriptionId"].is_string();
    is_there && subscription["collectionMethod"] == BY_CARD
}
