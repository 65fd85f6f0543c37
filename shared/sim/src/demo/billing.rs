//! Billing of the tenant: a subscription that is invoiced here, its first invoice paid, and a payout to the partner.

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
    /// Sells the tenant a subscription, and marks its first invoice as paid, by which the partner is credited.
    pub(super) async fn ensure_billing(&self) -> anyhow::Result<()> {
        let on = json!({ "rules": [{ "tenants": [DEMO_TENANT], "value": true }] });
        let flag = self.at(Method::PATCH, &format!("/flags/{NEW_BILLING_ENGINE}"));
        send(flag.json(&on)).await?;
        let billing: Value = send(self.request(Method::GET, "/billing"))
            .await?
            .json()
            .await?;
        if billing["subscription"].is_null() {
            let sale = json!({
                "tenant": DEMO_TENANT, "plan": "business", "cycle": "monthly", "seats": 5, "currency": CURRENCY,
                "priceMinor": 49_900,
            });
            send(self.at(Method::POST, "/subscriptions").json(&sale)).await?;
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
        // Reports on the current month, which else begin at midnight.
        let path = "/schedules/monthly_snapshots/run";
        send(self.at(Method::POST, path).json(&json!({}))).await?;
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

    /// A request as an operator.
    fn at(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.api);
        self.client.request(method, url).bearer_auth(&self.operator)
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
