//! Clock of the simulated Stripe: put ahead, until the service knows each invoice that Stripe has issued by itself meanwhile.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context as _, ensure};
use jiff::{Span, Timestamp, tz::TimeZone};
use reqwest::{Method, RequestBuilder};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{Demo, send};
use crate::callers::DEMO_PARTNER;

/// Time limit for the service to know all invoices.
const TIMEOUT: Duration = Duration::from_mins(1);
/// Interval between two looks at the invoices.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Furthest advance, in seconds: the invoices of a year fit one page.
const LONGEST: i64 = 366 * 24 * 60 * 60;
/// Longer than any month, in days.
const LONGER_THAN_A_MONTH: i64 = 32;

/// Invoice that Stripe issued as its clock began a period.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Renewal {
    /// Number.
    pub number: String,
    /// Status, as the service knows it.
    pub status: String,
    /// Share of the demo partner, in minor units; none if it has none.
    pub accrued_minor: Option<i64>,
}

/// An invoice of the simulated Stripe.
#[derive(Debug, Deserialize)]
struct Issued {
    id: String,
    number: Option<String>,
    status: String,
}

/// Puts Stripe's clock ahead, and waits until the service knows the invoices of all periods that began. Reports them to `say`.
pub async fn advance(
    api: &str,
    control: &str,
    by: Span,
    say: fn(&str),
) -> anyhow::Result<Vec<Renewal>> {
    let demo = Demo::new(api, control, say).await?;
    ensure!(
        demo.is_stripe_simulated().await?,
        "the API does not bill at the simulated Stripe"
    );
    demo.advance(by).await
}

/// Verifies that the next invoice of the demo tenant comes by itself, is paid, and is shared with the partner. Without the
/// simulated Stripe, there is nothing to verify.
pub async fn verify_renewal(api: &str, control: &str, say: fn(&str)) -> anyhow::Result<()> {
    let demo = Demo::new(api, control, say).await?;
    if !demo.is_stripe_simulated().await? {
        return Ok(());
    }
    let renewals = demo.advance(Span::new().days(LONGER_THAN_A_MONTH)).await?;
    let is_shared = |renewal: &Renewal| renewal.status == "paid" && renewal.accrued_minor.is_some();
    ensure!(
        renewals.iter().any(is_shared),
        "no next invoice was paid and shared with the partner: {renewals:?}"
    );
    demo.say("verified: the next invoice was charged, and its share credited to the partner");
    Ok(())
}

impl Demo {
    async fn advance(&self, by: Span) -> anyhow::Result<Vec<Renewal>> {
        let seconds = seconds_of(by, self.stripe_now().await?)?;
        let known = self.issued().await?;
        let known: BTreeSet<String> = known.into_iter().map(|issued| issued.id).collect();
        let ahead = json!({ "seconds": seconds });
        send(self.at_stripe(Method::POST, "/clock").json(&ahead)).await?;
        let now = Timestamp::from_second(self.stripe_now().await?)?;
        self.say(&format!("Stripe's clock     {now}"));
        let mut issued = self.issued().await?;
        issued.retain(|issued| !known.contains(&issued.id));
        if issued.is_empty() {
            self.say("invoice            none was due until then");
        }
        let mut renewals = Vec::new();
        for invoice in self.until_known(&issued).await? {
            let renewal = self.renewal(&invoice).await?;
            let share = renewal
                .accrued_minor
                .map(|share| format!(", {share} of {} to the partner", invoice["subtotalMinor"]));
            self.say(&format!(
                "invoice            {} {}{}",
                renewal.number,
                renewal.status,
                share.unwrap_or_default()
            ));
            renewals.push(renewal);
        }
        Ok(renewals)
    }

    /// Time of Stripe's clock, in seconds.
    async fn stripe_now(&self) -> anyhow::Result<i64> {
        let clock: Value = send(self.at_stripe(Method::GET, "/clock"))
            .await?
            .json()
            .await?;
        clock["now"].as_i64().context("the clock shows no time")
    }

    /// All invoices at Stripe, oldest first.
    async fn issued(&self) -> anyhow::Result<Vec<Issued>> {
        #[derive(Deserialize)]
        struct State {
            objects: Vec<Value>,
        }
        let state = send(self.at_stripe(Method::GET, "/state")).await?;
        let State { mut objects } = state.json().await?;
        objects.retain(|object| object["object"] == "invoice");
        let issued = objects.into_iter().map(serde_json::from_value);
        Ok(issued.collect::<Result<_, _>>()?)
    }

    /// These invoices as the service knows them, once it knows all of them in the status that they have at Stripe.
    async fn until_known(&self, issued: &[Issued]) -> anyhow::Result<Vec<Value>> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let items = items(self.at(Method::GET, "/invoices?limit=100")).await?;
            let known = |issued: &Issued| {
                let is_it = |item: &&Value| {
                    item["number"].as_str() == issued.number.as_deref()
                        && item["status"] == issued.status
                };
                items.iter().find(is_it).cloned()
            };
            let all: Option<Vec<Value>> = issued.iter().map(known).collect();
            if let Some(all) = all {
                return Ok(all);
            }
            ensure!(
                Instant::now() < deadline,
                "the service does not know all of {issued:?}"
            );
            sleep(POLL_INTERVAL).await;
        }
    }

    async fn renewal(&self, invoice: &Value) -> anyhow::Result<Renewal> {
        let text = |name: &str| invoice[name].as_str().unwrap_or_default().to_owned();
        let path = format!("/partners/{DEMO_PARTNER}/ledger?limit=100");
        let entries = items(self.at(Method::GET, &path)).await?;
        let entry = entries
            .iter()
            .find(|entry| entry["invoiceId"] == invoice["id"]);
        Ok(Renewal {
            number: text("number"),
            status: text("status"),
            accrued_minor: entry.and_then(|entry| entry["amountMinor"].as_i64()),
        })
    }
}

/// The items of a page.
async fn items(request: RequestBuilder) -> anyhow::Result<Vec<Value>> {
    #[derive(Deserialize)]
    struct Page {
        items: Vec<Value>,
    }
    let page: Page = send(request).await?.json().await?;
    Ok(page.items)
}

/// The seconds of a span that begins at `now`: months differ in length.
fn seconds_of(by: Span, now: i64) -> anyhow::Result<i64> {
    let start = Timestamp::from_second(now)?.to_zoned(TimeZone::UTC);
    let end = start.checked_add(by)?.timestamp().as_second();
    let seconds = end - now;
    ensure!(
        (1..=LONGEST).contains(&seconds),
        "the clock goes ahead by at least a second and at most a year"
    );
    Ok(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_is_as_long_as_the_calendar_says() {
        // 31 January 2026, 00:00 UTC.
        let now = 1_769_817_600;
        let days = |days: i64| days * 24 * 60 * 60;

        for (text, expected) in [("1mo", days(28)), ("1y", days(365)), ("36h", days(3) / 2)] {
            let by: Span = text.parse().unwrap();
            assert_eq!(seconds_of(by, now).unwrap(), expected, "{text}");
        }
        for text in ["0s", "-1d", "2y"] {
            let by: Span = text.parse().unwrap();
            assert!(seconds_of(by, now).is_err(), "{text}");
        }
    }
}
