//! Billing of the tenant: a subscription, its first invoice paid, and a payout to the partner.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use dezky_shared::{
    billing::month::Month,
    feature_flag::NEW_BILLING_ENGINE,
    id::PartnerId,
    platform::clock,
    store::{MongoConfig, Store},
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Demo, send};
use crate::{
    callers::{DEMO_PARTNER, DEMO_TENANT},
    opening_balance::credit,
};

/// Time limit for a job.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Interval between two looks at the results of a job.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Currency of everything.
const CURRENCY: &str = "DKK";
/// Balance owed to the partner for the month before, in minor units.
const OPENING_MINOR: i64 = 125_000;

impl Demo {
    /// Sells the tenant a subscription, whose first invoice is paid, so that the partner is credited. The simulated Stripe
    /// charges it to a card; without it, an operator marks it as paid.
    pub(super) async fn ensure_billing(&self) -> anyhow::Result<()> {
        let on = json!({ "rules": [{ "tenants": [DEMO_TENANT], "value": true }] });
        let flag = self.at(Method::PATCH, &format!("/flags/{NEW_BILLING_ENGINE}"));
        send(flag.json(&on)).await?;
        if self.is_stripe_simulated().await? {
            self.ensure_charged().await?;
        } else {
            self.ensure_marked_paid().await?;
        }
        // Reports on the current month, which else begin at midnight.
        let path = "/schedules/monthly_snapshots/run";
        send(self.at(Method::POST, path).json(&json!({}))).await?;
        Ok(())
    }

    /// Billing of the tenant.
    pub(super) async fn billing(&self) -> anyhow::Result<Value> {
        let billing = send(self.request(Method::GET, "/billing")).await?;
        Ok(billing.json().await?)
    }

    /// Sells the tenant the subscription. Without a way of collection, an operator marks its invoices as paid.
    pub(super) async fn sell(&self, collection_method: Option<&str>) -> anyhow::Result<Value> {
        let sale = json!({
            "tenant": DEMO_TENANT, "plan": "business", "cycle": "monthly", "seats": 5, "currency": CURRENCY,
            "priceMinor": 49_900, "collectionMethod": collection_method,
        });
        let sold = send(self.at(Method::POST, "/subscriptions").json(&sale)).await?;
        Ok(sold.json().await?)
    }

    /// Marks the first invoice as paid.
    async fn ensure_marked_paid(&self) -> anyhow::Result<()> {
        if self.billing().await?["subscription"].is_null() {
            self.sell(None).await?;
        }
        let invoices = || self.request(Method::GET, "/invoices");
        let invoice = until_listed(invoices).await?;
        let text = |field: &str| invoice[field].as_str().unwrap_or_default();
        if text("status") == "open" {
            let path = format!("/invoices/{}/mark-paid", text("id"));
            let paid = self.request(Method::POST, &path);
            send(paid.json(&json!({ "reference": "Demo payment" }))).await?;
        }
        self.say(&format!("invoice            {} paid", text("number")));
        Ok(())
    }

    /// Credits the partner in the month before, and pays that out.
    pub(super) async fn ensure_payout(&self, stored: &MongoConfig) -> anyhow::Result<()> {
        let payouts = || self.at(Method::GET, "/payouts");
        let known: Value = send(payouts()).await?.json().await?;
        if known["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
        {
            return Ok(());
        }
        let path = format!("/partners/{DEMO_PARTNER}");
        let partner: Value = send(self.at(Method::GET, &path)).await?.json().await?;
        let id = partner["id"].as_str().unwrap_or_default();
        let id: PartnerId = id.parse().context("the partner has no id")?;
        let month = Month::of(clock::now()).previous();
        let store = Arc::new(Store::connect(stored).await?);
        credit(&store, id, month, CURRENCY, OPENING_MINOR).await?;
        let payout = json!({
            "partner": DEMO_PARTNER, "currency": CURRENCY, "month": month.to_string(),
        });
        send(self.at(Method::POST, "/payouts").json(&payout)).await?;
        let payout = until_listed(payouts).await?;
        let path = format!(
            "/payouts/{}/mark-paid",
            payout["id"].as_str().unwrap_or_default()
        );
        let paid = self.at(Method::POST, &path);
        send(paid.json(&json!({ "reference": "Demo payout" }))).await?;
        self.say(&format!(
            "payout             for {month} paid to {DEMO_PARTNER}"
        ));
        Ok(())
    }
}

/// The first item of a list, once there is one.
async fn until_listed(request: impl Fn() -> RequestBuilder) -> anyhow::Result<Value> {
    let deadline = Instant::now() + TIMEOUT;
    loop {
        let mut page: Value = send(request()).await?.json().await?;
        if let Some(item) = page["items"].get_mut(0) {
            return Ok(item.take());
        }
        ensure!(Instant::now() < deadline, "nothing is listed");
        sleep(POLL_INTERVAL).await;
    }
}
